//! A linear layer with packed weights of any format: `y = x · Wᵀ + b`, and what the session's adapter adds to it.

use std::sync::Arc;

use tract_core::internal::*;

use super::{SessionScratch, core_error, equal_by_weights, floats};
use crate::pool::Pool;
use crate::weights::PackedLinear;

/// `[.., cols]` to `[.., rows]`.
#[derive(Debug, Clone)]
pub(crate) struct QuantLinear {
    weights: Arc<PackedLinear>,
    slot: usize,
    pool: Arc<Pool>,
}

equal_by_weights!(QuantLinear, weights);

impl QuantLinear {
    /// The layer with these weights; adapters know it as `slot`.
    pub(crate) fn new(weights: PackedLinear, slot: usize, pool: Arc<Pool>) -> QuantLinear {
        QuantLinear {
            weights: Arc::new(weights),
            slot,
            pool,
        }
    }

    /// What adapters know it as.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// The weights.
    pub(crate) fn weights(&self) -> &PackedLinear {
        &self.weights
    }
}

impl Op for QuantLinear {
    fn name(&self) -> StaticName {
        "QuantLinear".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantLinear {
    not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut shape: TVec<usize> = input.shape().into();
        let Some(last) = shape.last_mut() else {
            bail!("a linear layer needs an axis")
        };
        ensure!(
            *last == self.weights.cols(),
            "{last} columns, not {}",
            self.weights.cols()
        );
        *last = self.weights.rows();
        let tokens = input.len() / self.weights.cols();
        // SAFETY: plain numbers, and `apply` writes all of them or fails.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&shape)? };
        let x = floats(&input)?;
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        SessionScratch::with_adapter(ctx, self.slot, |scratch, adapter| {
            self.weights
                .apply(x, tokens, out, scratch, adapter, &self.pool)
        })
        .map_err(core_error)?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for QuantLinear {
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
