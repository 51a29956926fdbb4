//! A linear layer with weights of 8 bits by rows: `y = x · Wᵀ + b`.

use std::sync::Arc;

use tract_core::internal::*;

use super::{SessionScratch, core_error, equal_by_weights, floats};
use crate::pool::Pool;
use crate::weights::PackedInt8;

/// `[.., cols]` to `[.., rows]`.
#[derive(Debug, Clone)]
pub(crate) struct Int8Linear {
    weights: Arc<PackedInt8>,
    pool: Arc<Pool>,
}

equal_by_weights!(Int8Linear, weights);

impl Int8Linear {
    /// The layer with these weights.
    pub(crate) fn new(weights: PackedInt8, pool: Arc<Pool>) -> Int8Linear {
        Int8Linear {
            weights: Arc::new(weights),
            pool,
        }
    }

    /// The weights.
    pub(crate) fn weights(&self) -> &PackedInt8 {
        &self.weights
    }
}

impl Op for Int8Linear {
    fn name(&self) -> StaticName {
        "Int8Linear".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Int8Linear {
    not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut shape: TVec<usize> = input.shape().into();
        let Some(last) = shape.last_mut() else {
            bail!("a linear layer needs an axis")
        };
        let cols = self.weights.cols();
        ensure!(*last == cols, "{last} columns, not {cols}");
        *last = self.weights.rows();
        let tokens = input.len() / cols;
        // SAFETY: plain numbers, and `apply` writes all of them or fails.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&shape)? };
        let x = floats(&input)?;
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        SessionScratch::with(ctx, |scratch| {
            self.weights
                .apply(x, tokens, out, &mut scratch.linear.activations, &self.pool)
        })
        .map_err(core_error)?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Int8Linear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = inputs else {
            bail!("a linear layer has one input")
        };
        let mut shape: TVec<TDim> = input.shape.iter().cloned().collect();
        let Some(last) = shape.last_mut() else {
            bail!("a linear layer needs an axis")
        };
        *last = self.weights.rows().to_dim();
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
