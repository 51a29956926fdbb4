//! RMS or layer normalisation over the last axis, with the residual addition before it if there is one.

use std::sync::Arc;

use furlong_core::{Isa, norm};
use tract_core::internal::*;

use super::{Machine, core_error, equal_by_weights, floats};
use crate::pool::Pool;
use crate::rewrite::{NormKind, NormSpec};

/// Rows that a thread takes at once.
const ROWS_AT_ONCE: usize = 8;

/// `x` to its normalisation; or `x, y` to the normalisation of `x + y`, and `x + y`.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    spec: Arc<NormSpec>,
    isa: Isa,
    pool: Arc<Pool>,
}

equal_by_weights!(Norm, spec);

impl Norm {
    /// The normalisation that `spec` describes.
    pub(crate) fn new(spec: NormSpec, machine: &Machine) -> Norm {
        Norm {
            spec: Arc::new(spec),
            isa: machine.isa,
            pool: machine.pool.clone(),
        }
    }

    fn normalise(&self, x: &[f32], out: &mut [f32]) -> Result<(), furlong_core::Error> {
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
    }

    /// Adds `delta` to `stream`, row by row, and normalises the sum.
    fn add_and_normalise(
        &self,
        stream: &mut [f32],
        delta: &[f32],
        out: &mut [f32],
    ) -> Result<(), furlong_core::Error> {
        let work = |(stream, delta, out): (&mut [f32], &[f32], &mut [f32])| {
            norm::add(self.isa, stream, delta)?;
            self.normalise(stream, out)
        };
        let len = ROWS_AT_ONCE * self.spec.gain.len().max(1);
        if self.pool.threads() == 1 || stream.len() <= len {
            return work((stream, delta, out));
        }
        let parts = stream
            .chunks_mut(len)
            .zip(delta.chunks(len))
            .zip(out.chunks_mut(len));
        let jobs = parts.map(|((stream, delta), out)| (stream, delta, out));
        self.pool.for_each(jobs.collect(), work)
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
            let x = floats(&input)?;
            // SAFETY: plain numbers, and the kernels write all of them or fail.
            let mut output = unsafe { Tensor::uninitialized::<f32>(input.shape())? };
            // SAFETY: the tensor was made of this type just above.
            let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
            let width = self.spec.gain.len();
            let normalised = self.pool.for_rows(out, width, ROWS_AT_ONCE, |first, out| {
                let start = first * width;
                let x = x.get(start..start + out.len()).unwrap_or_default();
                self.normalise(x, out)
            });
            normalised.map_err(core_error)?;
            return Ok(tvec!(output.into_tvalue()));
        }
        let (stream, delta) = args_2!(inputs);
        ensure!(
            stream.shape() == delta.shape(),
            "the two summands have different shapes"
        );
        // Where nobody else holds the stream, it is added to in place.
        let mut sum = stream.into_tensor();
        // SAFETY: plain numbers, and the kernels write all of them or fail.
        let mut normed = unsafe { Tensor::uninitialized::<f32>(sum.shape())? };
        // SAFETY: types were checked when the graph was made: it is f32.
        let values = unsafe { sum.as_slice_mut_unchecked::<f32>() };
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { normed.as_slice_mut_unchecked::<f32>() };
        self.add_and_normalise(values, floats(&delta)?, out)
            .map_err(core_error)?;
        Ok(tvec!(normed.into_tvalue(), sum.into_tvalue()))
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
