//! The ops of a plan: one record of 48 bytes each, small enough steps that a watchdog can be fed between them.

mod operands;
mod record;

pub use operands::{Activation, Columns, Heads, Index, Kept, Patches, Rope, Rows};
pub use record::OP_BYTES;

use super::{BufferId, TensorId};

/// One step of a plan. Shapes: `n` is the number of tokens in the tile, `p` the position of the first. A buffer of fewer rows
/// than the tile has tokens (what was pooled, or what a convolution made fewer) is worked on as it is: `n` are its rows then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Op {
    /// `out[i] = table[index of token i]`, `out` `[n, columns]`.
    Gather {
        /// The table.
        table: TensorId,
        /// Which row.
        index: Index,
        /// Where the rows go.
        out: BufferId,
    },
    /// `to += from`, both `[n, columns]`.
    Add {
        /// The sum.
        to: BufferId,
        /// What is added.
        from: BufferId,
    },
    /// `to = from`, both `[n, columns]`.
    Copy {
        /// The copy.
        to: BufferId,
        /// What is copied.
        from: BufferId,
    },
    /// Normalisation of each row, `[n, columns]`.
    Norm {
        /// Whether the mean is taken out (layer normalisation), or not (RMS).
        centred: bool,
        /// The input.
        x: BufferId,
        /// Factor by column.
        gain: TensorId,
        /// Summand by column, for layer normalisation.
        bias: Option<TensorId>,
        /// Added to the variance.
        epsilon: f32,
        /// The result.
        out: BufferId,
    },
    /// Makes rows ready for the kernel of `weights`: quantises them, mostly.
    Prepare {
        /// `[n, columns]`.
        x: BufferId,
        /// A matrix of as many columns.
        weights: TensorId,
        /// Prepared activations.
        out: BufferId,
        /// Of which tokens.
        rows: Rows,
    },
    /// `out[.., column..] = activations · weightsᵀ + bias`.
    Multiply {
        /// What [`Op::Prepare`] made.
        activations: BufferId,
        /// The matrix.
        weights: TensorId,
        /// `[rows of the matrix]`.
        bias: Option<TensorId>,
        /// Where the products go.
        out: Columns,
        /// Of which tokens.
        rows: Rows,
    },
    /// `out = activation(gate product) ∘ (up product)`, some rows of the matrices at a time.
    Gated {
        /// The function.
        activation: Activation,
        /// What [`Op::Prepare`] made.
        activations: BufferId,
        /// The matrix whose products go through the function.
        gate: TensorId,
        /// The other matrix, of the same shape and format.
        up: TensorId,
        /// `[rows]`.
        gate_bias: Option<TensorId>,
        /// `[rows]`.
        up_bias: Option<TensorId>,
        /// `[2 · n, rows that are computed at a time]`.
        scratch: BufferId,
        /// `[n, rows]`.
        out: BufferId,
    },
    /// In place.
    Activate {
        /// The function.
        activation: Activation,
        /// `[n, columns]`.
        x: BufferId,
    },
    /// Normalises heads and turns them to their positions, in place.
    Place {
        /// Queries or keys.
        x: Columns,
        /// The heads.
        heads: Heads,
        /// RMS normalisation of each head, `[head columns]`.
        gain: Option<TensorId>,
        /// Added to the mean square.
        epsilon: f32,
        /// Rotary positions.
        rope: Option<Rope>,
    },
    /// Writes the keys or the values of a tile into the cache, from position `p` on.
    Append {
        /// Keys or values.
        from: Columns,
        /// The heads.
        heads: Heads,
        /// `[heads, context, head columns]`.
        cache: BufferId,
        /// Which of the two.
        kept: Kept,
    },
    /// Causal attention over the cache.
    Attend {
        /// `[n, query columns]` from a column on.
        queries: Columns,
        /// The query heads.
        heads: Heads,
        /// Key heads; divides the number of query heads.
        kv_heads: u16,
        /// `[kv_heads, context, head columns]`.
        keys: BufferId,
        /// `[kv_heads, context, head columns]`.
        values: BufferId,
        /// `[n, query columns]`.
        out: BufferId,
        /// Factor of the scores.
        scale: f32,
        /// Scores become `softcap · tanh(score / softcap)`; 0 for none.
        softcap: f32,
        /// How many positions back a token sees, itself included; 0 for all.
        window: u32,
    },
    /// Attention of all tokens over all of them.
    SelfAttend {
        /// The queries.
        queries: Columns,
        /// The keys.
        keys: Columns,
        /// The values.
        values: Columns,
        /// The query heads.
        heads: Heads,
        /// Key heads; divides the number of query heads.
        kv_heads: u16,
        /// Columns of a value of one head.
        value_dim: u16,
        /// Factor of the scores.
        scale: f32,
        /// Floats, as many as `tiled_scratch` says.
        scratch: BufferId,
        /// `[n, heads · value_dim]`.
        out: BufferId,
    },
    /// `out[patch] = the numbers of the patch`, by height, width, channel.
    Unfold {
        /// Any numbers, as many as `patches` says.
        x: BufferId,
        /// `[patches, kernel height · kernel width · channels]`.
        out: BufferId,
        /// Where they are.
        patches: Patches,
    },
    /// `out = rows of a constant, and then x`.
    Prepend {
        /// `[some, columns]`.
        table: TensorId,
        /// `[n, columns]`.
        x: BufferId,
        /// `[some + n, columns]`.
        out: BufferId,
    },
    /// One row of many.
    Pool {
        /// `[n, columns]`.
        x: BufferId,
        /// `[1, columns]`.
        out: BufferId,
        /// Takes the first token rather than the mean.
        first: bool,
        /// Scales to length 1.
        normalise: bool,
    },
}

impl Op {
    /// The buffers that it reads or writes, some perhaps twice.
    pub fn buffers(&self) -> impl Iterator<Item = BufferId> {
        let of = |ids: &[BufferId]| {
            let mut found = [None; 5];
            found
                .iter_mut()
                .zip(ids)
                .for_each(|(to, id)| *to = Some(*id));
            found
        };
        let found = match *self {
            Op::Gather { out, .. } => of(&[out]),
            Op::Add { to, from } | Op::Copy { to, from } => of(&[to, from]),
            Op::Norm { x, out, .. }
            | Op::Prepare { x, out, .. }
            | Op::Pool { x, out, .. }
            | Op::Unfold { x, out, .. }
            | Op::Prepend { x, out, .. } => of(&[x, out]),
            Op::Multiply {
                activations, out, ..
            } => of(&[activations, out.buffer]),
            Op::Gated {
                activations,
                scratch,
                out,
                ..
            } => of(&[activations, scratch, out]),
            Op::Activate { x, .. } => of(&[x]),
            Op::Place { x, .. } => of(&[x.buffer]),
            Op::Append { from, cache, .. } => of(&[from.buffer, cache]),
            Op::Attend {
                queries,
                keys,
                values,
                out,
                ..
            } => of(&[queries.buffer, keys, values, out]),
            Op::SelfAttend {
                queries,
                keys,
                values,
                scratch,
                out,
                ..
            } => of(&[queries.buffer, keys.buffer, values.buffer, scratch, out]),
        };
        found.into_iter().flatten()
    }
}
