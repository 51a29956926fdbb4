//! Executes one op on the tokens of a tile, or a part of it where the whole would take long.
//!
//! Each function calls the kernels that the host's runtime calls for the same op, with the same numbers. An op works on as
//! many rows as its buffers have, at most one for each token: what is pooled has one row, a buffer of a tile has the tile's.

use super::op::{Activation, Columns, Index, Op, Rows};
use super::{BufferId, Plan, PlanError, Tensor, TensorFormat, TensorId, cast};
use crate::gather::gather_row;
use crate::pieces::{pieces, pieces_mut};
use crate::rope::rope;
use crate::{
    Error, Feature, Int8Kernel, Isa, LinearKernel, MatrixMut, Operand, PackedLayout, activation,
    norm,
};
use core::ops::Range;

/// Parts of a matrix start at multiples of so many rows.
pub(super) const ROW_TILE: usize = 16;

/// Multiply-adds after which a product pauses: about a millisecond of a Cortex-M4 at 80 MHz.
const PRODUCTS_AT_ONCE: usize = 1 << 16;

/// The tokens in work, and where their values are.
pub(super) struct Execution<'e, 'p> {
    pub plan: &'e Plan<'p>,
    pub isa: Isa,
    /// Starts at a multiple of [`ARENA_ALIGN`](super::ARENA_ALIGN).
    pub arena: &'e mut [u8],
    /// Position of the tile's first token.
    pub first: usize,
    /// Tokens of the tile.
    pub tokens: usize,
}

/// How far an op has come: the part that is next, or `None` when it is done.
pub(super) type Progress = Result<Option<usize>, PlanError>;

const DONE: Progress = Ok(None);

/// An operand that does not fit, which [`Plan::check`] would have refused.
pub(super) const MISFIT: PlanError = PlanError::Kernel(Error::Shape);

/// The bytes of some buffers, which may not overlap.
pub(super) fn split<'e, const N: usize>(
    plan: &Plan<'_>,
    arena: &'e mut [u8],
    ids: [BufferId; N],
) -> Result<[&'e mut [u8]; N], PlanError> {
    let mut ranges = [const { 0..0 }; N];
    for (range, id) in ranges.iter_mut().zip(ids) {
        *range = plan.buffer(id)?.range();
    }
    arena.get_disjoint_mut(ranges).map_err(|_| MISFIT)
}

impl<'e, 'p> Execution<'e, 'p> {
    /// Executes part `part` of `op`; the first part is 0.
    pub(super) fn run(&mut self, op: &Op, part: usize) -> Progress {
        match *op {
            Op::Gather { table, index, out } => self.gather(table, index, out),
            Op::Add { to, from } => {
                let isa = self.isa;
                let (_, [to, from]) = self.pair(to, from)?;
                norm::add(isa, to, from)?;
                DONE
            }
            Op::Copy { to, from } => {
                let (_, [to, from]) = self.pair(to, from)?;
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                DONE
            }
            Op::Norm {
                centred,
                x,
                gain,
                bias,
                epsilon,
                out,
            } => {
                let (gain, bias) = (self.plan.floats(gain)?, self.plan.optional_floats(bias)?);
                let isa = self.isa;
                let (_, [out, x]) = self.pair(out, x)?;
                match centred {
                    true => norm::layer_norm(isa, x, gain, bias, epsilon, out)?,
                    false => norm::rms_norm(isa, x, gain, epsilon, out)?,
                }
                DONE
            }
            Op::Prepare {
                x,
                weights,
                out,
                rows,
            } => self.prepare(x, weights, out, rows),
            Op::Multiply {
                activations,
                weights,
                bias,
                out,
                rows,
            } => self.multiply(activations, weights, bias, out, rows, part),
            Op::Gated { .. } => self.gated(op, part),
            Op::Activate { activation, x } => {
                let isa = self.isa;
                activate(isa, activation, self.rows(x)?.1);
                DONE
            }
            Op::Place { .. } => self.place(op),
            Op::Append {
                from,
                heads,
                cache,
                kept,
            } => self.append(from, heads, cache, kept),
            Op::Attend { .. } => self.attend(op, part),
            // Refused by the check.
            Op::SelfAttend { .. } | Op::Unfold { .. } | Op::Prepend { .. } | Op::Pool { .. }
                if !Feature::Encoder.is_built() =>
            {
                Err(MISFIT)
            }
            Op::SelfAttend { .. } => self.self_attend(op, part),
            Op::Unfold { .. } => self.unfold(op, part),
            Op::Prepend { table, x, out } => self.prepend(table, x, out),
            Op::Pool {
                x,
                out,
                first,
                normalise,
            } => self.pool(x, out, first, normalise),
        }
    }

    /// How many rows of a buffer of floats are in use, and its columns.
    pub(super) fn shape(&self, id: BufferId) -> Result<(usize, usize), PlanError> {
        let buffer = self.plan.buffer(id)?;
        let rows = (buffer.rows as usize).min(self.tokens);
        Ok((rows, buffer.columns as usize))
    }

    /// Columns of a buffer of floats, and the rows in use.
    pub(super) fn rows(&mut self, id: BufferId) -> Result<(usize, &mut [f32]), PlanError> {
        let (rows, columns) = self.shape(id)?;
        let [bytes] = split(self.plan, self.arena, [id])?;
        Ok((columns, first_rows(bytes, rows, columns)?))
    }

    /// The same of two buffers of equal shape.
    fn pair(&mut self, a: BufferId, b: BufferId) -> Result<(usize, [&mut [f32]; 2]), PlanError> {
        let (rows, columns) = self.shape(a)?;
        let [a, b] = split(self.plan, self.arena, [a, b])?;
        let a = first_rows(a, rows, columns)?;
        Ok((columns, [a, first_rows(b, rows, columns)?]))
    }

    fn gather(&mut self, table: TensorId, index: Index, out: BufferId) -> Progress {
        let tensor = self.plan.tensor(table)?;
        let bytes = self.plan.bytes_of(&tensor);
        let (rows, columns) = (tensor.rows as usize, tensor.columns as usize);
        let (count, _) = self.shape(out)?;
        let [tokens, out] = split(self.plan, self.arena, [self.plan.header.tokens, out])?;
        let out = first_rows(out, count, columns)?;
        let tokens = cast::words(tokens)?;
        // A width of zero is refused with the table.
        for (out, position) in out.chunks_mut(columns.max(1)).zip(self.first..) {
            let row = match index {
                Index::Token => *tokens.get(position).ok_or(MISFIT)? as usize,
                Index::Position => position,
                Index::First => 0,
            };
            match tensor.format {
                TensorFormat::Packed(format) => {
                    let layout = PackedLayout::of(format, self.isa.kind())?;
                    layout.unpack_row(bytes, rows, columns, row, out)?;
                }
                // Refused by the check.
                _ if !Feature::Table.is_built() => return Err(MISFIT),
                _ => gather_row(&tensor.table(bytes)?, row, out)?,
            }
        }
        DONE
    }

    fn prepare(&mut self, x: BufferId, weights: TensorId, out: BufferId, rows: Rows) -> Progress {
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

    fn multiply(
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

    fn gated(&mut self, op: &Op, start: usize) -> Progress {
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

    fn place(&mut self, op: &Op) -> Progress {
        let Op::Place {
            x,
            heads,
            gain,
            epsilon,
            rope: turn,
        } = *op
        else {
            return Err(MISFIT);
        };
        let gain = self.plan.optional_floats(gain)?;
        let tables = match turn {
            Some(turn) => Some((
                self.plan.floats(turn.cos)?,
                self.plan.floats(turn.sin)?,
                self.plan.tensor(turn.cos)?.columns as usize,
                turn.pairs,
            )),
            None => None,
        };
        let (isa, first) = (self.isa, self.first);
        let columns = own_columns(x, heads.columns());
        let (stride, values) = self.rows(x.buffer)?;
        for (row, position) in pieces_mut(values, stride).zip(first..) {
            let row = row.get_mut(columns.clone()).ok_or(MISFIT)?;
            for head in pieces_mut(row, usize::from(heads.dim)) {
                if let Some(gain) = gain {
                    norm::rms_norm_in_place(isa, head, gain, epsilon)?;
                }
                if let Some((cos, sin, half, pairs)) = tables {
                    let start = position.saturating_mul(half);
                    let range = start..start.saturating_add(half);
                    let cos = cos.get(range.clone()).ok_or(MISFIT)?;
                    rope(isa, pairs, head, cos, sin.get(range).ok_or(MISFIT)?)?;
                }
            }
        }
        DONE
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

/// The first rows of a buffer of floats.
pub(super) fn first_rows(
    bytes: &mut [u8],
    rows: usize,
    columns: usize,
) -> Result<&mut [f32], PlanError> {
    let numbers = rows.checked_mul(columns).ok_or(MISFIT)?;
    cast::floats_mut(bytes)?.get_mut(..numbers).ok_or(MISFIT)
}

/// The columns of a row that an operand names.
pub(super) fn own_columns(columns: Columns, width: usize) -> Range<usize> {
    let start = usize::from(columns.column);
    start..start.saturating_add(width)
}

fn activate(isa: Isa, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => activation::silu(isa, x),
        Activation::GeluErf => activation::gelu_erf(isa, x),
        Activation::GeluTanh => activation::gelu_tanh(isa, x),
        Activation::Tanh => activation::tanh(isa, x),
    }
}
