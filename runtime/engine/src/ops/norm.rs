//! RMS or layer normalisation over the last axis, with the residual addition before it if there is one.

use std::sync::Arc;

use furlong_core::{Isa, norm};
use tract_core::internal::*;

use super::{core_error, equal_by_weights, floats};
use crate::rewrite::{NormKind, NormSpec};

/// `x` to its normalisation; or `x, y` to the normalisation of `x + y`, and `x + y`.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    spec: Arc<NormSpec>,
    isa: Isa,
}

equal_by_weights!(Norm, spec);

impl Norm {
    /// The normalisation that `spec` describes.
    pub(crate) fn new(spec: NormSpec, isa: Isa) -> Norm {
        Norm {
            spec: Arc::new(spec),
            isa,
        }
    }

    fn normalise(&self, x: &[f32], shape: &[usize]) -> TractResult<TValue> {
        // SAFETY: plain numbers, and the kernels write all of them or fail.
        let mut output = unsafe { Tensor::uninitialized::<f32>(shape)? };
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        let NormSpec {
            gain,
            kind,
            epsilon,
            ..
        } = &*self.spec;
        match kind {
            NormKind::Rms => norm::rms_norm(self.isa, x, gain, *epsilon, out),
            NormKind::Layer { bias } => {
                norm::layer_norm(self.isa, x, gain, bias.as_deref(), *epsilon, out)
            }
        }
        .map_err(core_error)?;
        Ok(output.into_tvalue())
    }
}

impl Op for Norm {
    fn name(&self) -> StaticName {
        let name = match (&self.spec.kind, self.spec.residual) {
            (NormKind::Rms, false) => "RmsNorm",
            (NormKind::Rms, true) => "AddRmsNorm",
            (NormKind::Layer { .. }, false) => "LayerNorm",
            (NormKind::Layer { .. }, true) => "AddLayerNorm",
        };
        name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Norm {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        if !self.spec.residual {
            let input = args_1!(inputs);
            return Ok(tvec!(self.normalise(floats(&input)?, input.shape())?));
        }
        let (stream, delta) = args_2!(inputs);
        ensure!(
            stream.shape() == delta.shape(),
            "the two summands have different shapes"
        );
        // Where nobody else holds the stream, it is added to in place.
        let mut sum = stream.into_tensor();
        // SAFETY: types were checked when the graph was made: both are f32.
        let values = unsafe { sum.as_slice_mut_unchecked::<f32>() };
        norm::add(self.isa, values, floats(&delta)?).map_err(core_error)?;
        let sum = sum.into_tvalue();
        let normed = self.normalise(floats(&sum)?, sum.shape())?;
        Ok(tvec!(normed, sum))
    }
}

impl TypedOp for Norm {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let Some(input) = inputs.first() else {
            bail!("a normalisation has an input")
        };
        let fact = f32::fact(&*input.shape);
        Ok(if self.spec.residual {
            tvec!(fact.clone(), fact)
        } else {
            tvec!(fact)
        })
    }

    as_op!();
}
