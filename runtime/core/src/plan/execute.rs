//! Executes one op on the tokens of a tile, or a part of it where the whole would take long.
//!
//! Each function calls the kernels that the host's runtime calls for the same op, with the same numbers. An op works on as
//! many rows as its buffers have, at most one for each token: what is pooled has one row, a buffer of a tile has the tile's.

use super::op::{Activation, Columns, Index, Op};
use super::{BufferId, Plan, PlanError, TensorFormat, TensorId, cast};
use crate::gather::gather_row;
use crate::pieces::pieces_mut;
use crate::rope::rope;
use crate::{Error, Feature, Isa, PackedLayout, activation, norm};
use core::ops::Range;

/// Parts of a matrix start at multiples of so many rows.
pub(super) const ROW_TILE: usize = 16;

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

pub(super) const DONE: Progress = Ok(None);

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

pub(super) fn activate(isa: Isa, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => activation::silu(isa, x),
        Activation::GeluErf => activation::gelu_erf(isa, x),
        Activation::GeluTanh => activation::gelu_tanh(isa, x),
        Activation::Tanh => activation::tanh(isa, x),
    }
}
