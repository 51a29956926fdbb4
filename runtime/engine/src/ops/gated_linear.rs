//! Two linear layers of one input, the first of which gates the second: SwiGLU and its kin, in one op.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::{Isa, MatrixMut, activation};
use tract_core::internal::*;

use super::{Machine, SessionScratch, core_error, equal_by_weights, floats};
use crate::pool::Pool;
use crate::rewrite::Activation;
use crate::weights::{LinearScratch, LowRank, PackedMatrix, SidePath, prepare};

/// Rows that are computed before they are joined, so that they are still in the cache then.
const ROWS_AT_ONCE: usize = 256;

/// Tokens whose values find room on the stack.
const FEW: usize = 4;

/// `activation(x · W_gateᵀ) ∘ (x · W_upᵀ)`: `[.., cols]` to `[.., rows]`.
#[derive(Debug, Clone)]
pub(crate) struct GatedLinear {
    weights: Arc<GatedWeights>,
    slot: usize,
    activation: Activation,
    isa: Isa,
    pool: Arc<Pool>,
}

/// The two matrices, of one format and shape.
#[derive(Debug)]
struct GatedWeights {
    gate: PackedMatrix,
    up: PackedMatrix,
}

equal_by_weights!(GatedLinear, weights);

impl GatedLinear {
    /// The layer of two matrices: the gate, and what it gates. Adapters know it as `slot`.
    pub(crate) fn new(
        matrices: Vec<PackedMatrix>,
        slot: usize,
        activation: Activation,
        machine: &Machine,
    ) -> TractResult<GatedLinear> {
        let [gate, up] = <[PackedMatrix; 2]>::try_from(matrices)
            .map_err(|some| format_err!("a gated layer has two parts, not {}", some.len()))?;
        Ok(GatedLinear {
            weights: Arc::new(GatedWeights { gate, up }),
            slot,
            activation,
            isa: machine.isa,
            pool: machine.pool.clone(),
        })
    }

    /// The two matrices.
    pub(crate) fn matrices(&self) -> [&PackedMatrix; 2] {
        [&self.weights.gate, &self.weights.up]
    }

    /// What adapters know it as.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    fn rows(&self) -> usize {
        self.weights.gate.rows()
    }

    fn cols(&self) -> usize {
        self.weights.gate.cols()
    }

    /// Computes the rows `rows` of the result.
    fn part(
        &self,
        activations: &[u8],
        side: Option<&SidePath<'_>>,
        tokens: usize,
        rows: Range<usize>,
        out: MatrixMut<'_>,
    ) -> Result<(), furlong_core::Error> {
        let width = ROWS_AT_ONCE.min(rows.len());
        // A few tokens' values are on the stack, so that writing an answer allocates none.
        let (mut few, mut many) = ([0.0; 2 * FEW * ROWS_AT_ONCE], Vec::new());
        let both = if tokens <= FEW {
            few.as_mut_slice()
        } else {
            many.resize(2 * tokens * width, 0.0);
            many.as_mut_slice()
        };
        let (gates, ups) = both.split_at_mut(both.len() / 2);
        let mut rest = out;
        let mut first = rows.start;
        while first < rows.end {
            let some = first..rows.end.min(first + ROWS_AT_ONCE);
            let len = some.len();
            let gates = gates.get_mut(..tokens * len).unwrap_or_default();
            let ups = ups.get_mut(..tokens * len).unwrap_or_default();
            let pairs = self.matrices().into_iter().zip([&mut *gates, &mut *ups]);
            for (index, (matrix, values)) in pairs.enumerate() {
                let mut view = MatrixMut::new(values, tokens, len)?;
                matrix.multiply(activations, tokens, some.clone(), view.reborrow())?;
                if let Some(side) = side {
                    side.add(index, some.clone(), view)?;
                }
            }
            let (own, after) = rest.split_at_column(len);
            rest = after;
            self.join(gates, ups, own)?;
            first = some.end;
        }
        Ok(())
    }

    /// Gates what is to be gated. `gates` is overwritten.
    fn join(
        &self,
        gates: &mut [f32],
        ups: &[f32],
        mut out: MatrixMut<'_>,
    ) -> Result<(), furlong_core::Error> {
        match self.activation {
            Activation::Silu => return activation::silu_mul(self.isa, gates, ups, out),
            Activation::GeluErf => activation::gelu_erf(self.isa, gates),
            Activation::GeluTanh => activation::gelu_tanh(self.isa, gates),
        }
        let len = out.columns().max(1);
        for (token, (gates, ups)) in gates.chunks(len).zip(ups.chunks(len)).enumerate() {
            if let Some(row) = out.row_mut(token) {
                let products = gates.iter().zip(ups).map(|(g, u)| g * u);
                row.iter_mut().zip(products).for_each(|(y, p)| *y = p);
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        x: &[f32],
        tokens: usize,
        out: &mut [f32],
        scratch: &mut LinearScratch,
        adapter: Option<&LowRank>,
    ) -> Result<(), furlong_core::Error> {
        let LinearScratch {
            activations,
            hidden,
        } = scratch;
        let kernel = self.weights.gate.kernel();
        prepare(kernel, x, tokens, self.cols(), activations, &self.pool)?;
        let side = adapter
            .map(|adapter| adapter.begin(x, tokens, hidden, &self.pool))
            .transpose()?;
        let out = MatrixMut::new(out, tokens, self.rows())?;
        let activations: &[u8] = activations;
        self.pool
            .for_columns(out, kernel.row_tile(), &|rows, part| {
                self.part(activations, side.as_ref(), tokens, rows, part)
            })
    }
}

impl Op for GatedLinear {
    fn name(&self) -> StaticName {
        "GatedLinear".into()
    }

    op_as_typed_op!();
}

impl EvalOp for GatedLinear {
    not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut shape: TVec<usize> = input.shape().into();
        let Some(last) = shape.last_mut() else {
            bail!("a gated layer needs an axis")
        };
        ensure!(*last == self.cols(), "{last} columns, not {}", self.cols());
        *last = self.rows();
        let tokens = input.len() / self.cols();
        // SAFETY: plain numbers, and `apply` writes all of them or fails.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&shape)? };
        let x = floats(&input)?;
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        SessionScratch::with_adapter(ctx, self.slot, |scratch, adapter| {
            self.apply(x, tokens, out, scratch, adapter)
        })
        .map_err(core_error)?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for GatedLinear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = inputs else {
            bail!("a gated layer has one input")
        };
        let mut shape: TVec<TDim> = input.shape.iter().cloned().collect();
        let Some(last) = shape.last_mut() else {
            bail!("a gated layer needs an axis")
        };
        *last = self.rows().to_dim();
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
