//! Linear maps of a plan: their activations made ready, a part of the product in each step, gates on top.

use super::execute::{DONE, Execution, MISFIT, Progress, ROW_TILE, activate, first_rows, split};
use super::op::{Activation, Columns, Op, Rows};
use super::{BufferId, Plan, PlanError, Tensor, TensorFormat, TensorId, cast};
use crate::pieces::pieces;
use crate::{Error, Feature, Int8Kernel, Isa, LinearKernel, MatrixMut, Operand, activation, norm};
use core::ops::Range;

/// Multiply-adds after which a product pauses: about a millisecond of a Cortex-M4 at 80 MHz.
const PRODUCTS_AT_ONCE: usize = 1 << 16;

impl Execution<'_, '_> {
    pub(super) fn prepare(
        &mut self,
        x: BufferId,
        weights: TensorId,
        out: BufferId,
        rows: Rows,
    ) -> Progress {
        let matrix = self.plan.tensor(weights)?;
        let columns = matrix.columns as usize;
        let (count, _) = self.shape(x)?;
        let [x, out] = split(self.plan, self.arena, [x, out])?;
        let x: &[f32] = first_rows(x, count, columns)?;
        let (x, tokens) = match rows {
            Rows::All => (x, count),
            Rows::Last => {
                let start = x.len().checked_sub(columns).ok_or(MISFIT)?;
                (x.get(start..).ok_or(MISFIT)?, 1)
            }
        };
        match matrix.format {
            TensorFormat::Packed(format) => {
                LinearKernel::select(format, self.isa)?.prepare(x, tokens, columns, out)?;
            }
            TensorFormat::Rows8(ranges) if Feature::Encoder.is_built() => {
                Int8Kernel::select(self.isa).prepare(x, tokens, columns, ranges, out)?;
            }
            _ => return Err(MISFIT),
        }
        DONE
    }

    pub(super) fn multiply(
        &mut self,
        activations: BufferId,
        weights: TensorId,
        bias: Option<TensorId>,
        out: Columns,
        rows: Rows,
        start: usize,
    ) -> Progress {
        let (count, stride) = self.shape(out.buffer)?;
        let tokens = match rows {
            Rows::All => count,
            Rows::Last => 1,
        };
        let matrix = Matrix::new(self.plan, weights, bias)?;
        let range = matrix.some_rows(start, tokens);
        let [activations, values] = split(self.plan, self.arena, [activations, out.buffer])?;
        let column = usize::from(out.column).saturating_add(start);
        let values = cast::floats_mut(values)?.get_mut(column..).ok_or(MISFIT)?;
        let view = MatrixMut::with_stride(values, tokens, range.len(), stride)?;
        matrix.multiply(self.isa, activations, tokens, range.clone(), view)?;
        Ok((range.end < matrix.rows).then_some(range.end))
    }

    pub(super) fn gated(&mut self, op: &Op, start: usize) -> Progress {
        let Op::Gated {
            activation,
            activations,
            gate,
            up,
            gate_bias,
            up_bias,
            scratch,
            out,
        } = *op
        else {
            return Err(MISFIT);
        };
        let isa = self.isa;
        let (tokens, stride) = self.shape(out)?;
        let gate = Matrix::new(self.plan, gate, gate_bias)?;
        let up = Matrix::new(self.plan, up, up_bias)?;
        let width = self.plan.buffer(scratch)?.columns as usize;
        let range = start..start.saturating_add(width).min(gate.rows);
        let ids = [activations, scratch, out];
        let [activations, scratch, out] = split(self.plan, self.arena, ids)?;
        let scratch = cast::floats_mut(scratch)?;
        let half = scratch.len() / 2;
        let (gates, ups) = scratch.split_at_mut_checked(half).ok_or(MISFIT)?;
        let numbers = tokens.saturating_mul(range.len());
        let gates = gates.get_mut(..numbers).ok_or(MISFIT)?;
        let ups = ups.get_mut(..numbers).ok_or(MISFIT)?;
        for (matrix, values) in [(&gate, &mut *gates), (&up, &mut *ups)] {
            let view = MatrixMut::new(values, tokens, range.len())?;
            matrix.multiply(isa, activations, tokens, range.clone(), view)?;
        }
        let out = cast::floats_mut(out)?.get_mut(start..).ok_or(MISFIT)?;
        let mut view = MatrixMut::with_stride(out, tokens, range.len(), stride)?;
        match activation {
            Activation::Silu => activation::silu_mul(isa, gates, ups, view)?,
            other => {
                activate(isa, other, gates);
                let rows = pieces(gates, range.len()).zip(pieces(ups, range.len()));
                for (token, (gates, ups)) in rows.enumerate() {
                    let row = view.row_mut(token).unwrap_or_default();
                    let both = gates.iter().zip(ups);
                    row.iter_mut().zip(both).for_each(|(y, (g, u))| *y = g * u);
                }
            }
        }
        // A scratch of no columns would never end; the check refuses it.
        Ok((range.end < gate.rows && range.end > start).then_some(range.end))
    }
}

/// A matrix of the plan, with what is added to its products.
struct Matrix<'p> {
    format: TensorFormat,
    rows: usize,
    columns: usize,
    bytes: &'p [u8],
    bias: Option<&'p [f32]>,
}

impl<'p> Matrix<'p> {
    fn new(
        plan: &Plan<'p>,
        weights: TensorId,
        bias: Option<TensorId>,
    ) -> Result<Matrix<'p>, PlanError> {
        let tensor: Tensor = plan.tensor(weights)?;
        Ok(Matrix {
            format: tensor.format,
            rows: tensor.rows as usize,
            columns: tensor.columns as usize,
            bytes: plan.bytes_of(&tensor),
            bias: plan.optional_floats(bias)?,
        })
    }

    /// As many rows from `start` on as one step multiplies.
    fn some_rows(&self, start: usize, tokens: usize) -> Range<usize> {
        let products = self.columns.saturating_mul(tokens).max(1);
        let rows = PRODUCTS_AT_ONCE / products / ROW_TILE * ROW_TILE;
        let end = start.saturating_add(rows.max(ROW_TILE));
        start..end.min(self.rows)
    }

    fn multiply(
        &self,
        isa: Isa,
        activations: &[u8],
        tokens: usize,
        range: Range<usize>,
        mut out: MatrixMut<'_>,
    ) -> Result<(), Error> {
        let (rows, columns) = (self.rows, self.columns);
        match self.format {
            TensorFormat::Packed(format) => {
                let kernel = LinearKernel::select(format, isa)?;
                let view = out.reborrow();
                let some = range.clone();
                kernel.multiply(self.bytes, rows, columns, activations, tokens, some, view)?;
                let Some(bias) = self.bias else { return Ok(()) };
                let bias = bias.get(range).ok_or(Error::Length(Operand::Parameters))?;
                for token in 0..tokens {
                    norm::add(isa, out.row_mut(token).unwrap_or_default(), bias)?;
                }
                Ok(())
            }
            TensorFormat::Rows8(_) if Feature::Encoder.is_built() => Int8Kernel::select(isa)
                .multiply(
                    self.bytes,
                    rows,
                    columns,
                    activations,
                    tokens,
                    range,
                    self.bias,
                    out,
                ),
            _ => Err(Error::Format),
        }
    }
}
