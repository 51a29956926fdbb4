//! Attention of the query heads that share one key/value head, over a cache of keys and values.
//!
//! `softmax(scale * q kᵀ) v` with an online softmax: positions are taken in blocks of 32, with a running
//! maximum and sum, so no row of scores is ever stored. M. Milakov and N. Gimelshein, «Online normalizer
//! calculation for softmax», 2018, arXiv 1805.02867; T. Dao and others, «FlashAttention», 2022, arXiv
//! 2205.14135. Grouped queries: J. Ainslie and others, «GQA», 2023, arXiv 2305.13245.
//!
//! Keys and values are read (and f16 widened) once for up to four query heads. Dot products run over sixteen
//! sums added as a tree, and blocks start at the first visible position, so a token gets the same bits on
//! every instruction set, and whether it came alone or in a prompt. Encoders, whose tokens all come at once, have a
//! form of their own: [`attend_tiled`].

#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_softmax;
mod online;
mod products;
mod q8;
mod tiled;

pub use lanes::narrow_to_f16;
pub use q8::{
    Q8_MAX_COLUMNS, Q8_POSITIONS, Q8Groups, attend_q8, q8_columns, q8_kernel_name, q8_scales,
    store_key, store_value,
};
pub use tiled::{Mask, TiledShape, attend_tiled, tiled_scratch};

use crate::{Error, Feature, Floats, Isa, MatrixMut, Operand};

impl AttentionShape {
    /// The same: neither dimension is 0 where this is called, and saying so leaves out the code for when one is.
    #[inline(always)]
    fn positive(&self) -> AttentionShape {
        AttentionShape {
            head_dim: self.head_dim.max(1),
            value_dim: self.value_dim.max(1),
            ..*self
        }
    }
}

/// Which positions a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Visible {
    /// All of them (encoders).
    All,
    /// Token `i` sees the positions up to and including `first + i`, and only the last `window` of those if given.
    Causal {
        /// Position of the first token.
        first: usize,
        /// Sliding window, in positions.
        window: Option<usize>,
    },
}

/// The shapes and constants of a call of [`attend`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AttentionShape {
    /// Tokens that ask.
    pub tokens: usize,
    /// Query heads that share this key/value head.
    pub group: usize,
    /// Values of one query or key.
    pub head_dim: usize,
    /// Values of one cached value.
    pub value_dim: usize,
    /// Values from one token's queries to the next.
    pub query_stride: usize,
    /// Factor of the scores, usually `1 / √head_dim`.
    pub scale: f32,
    /// Scores become `softcap * tanh(score / softcap)` if given.
    pub softcap: Option<f32>,
    /// Which positions each token sees.
    pub visible: Visible,
}

/// Query heads that are computed side by side. One on microcontrollers, where four copies of the code would not fit beside a
/// model; each head's result is the same.
const HEADS: usize = if cfg!(target_arch = "arm") { 1 } else { 4 };

/// Attention of `group` query heads of `tokens` tokens over one key/value head.
///
/// `queries` holds token `t`, head `h` at `t * query_stride + h * head_dim`. `keys` is `[positions, head_dim]`, `values`
/// `[positions, value_dim]`, both f32 or both f16. `out` is `[tokens, group * value_dim]`. A token that sees no
/// position gets zeros.
///
/// # Errors
/// [`Error::Shape`] for a zero dimension, keys and values of different width, or a stride below
/// `group * head_dim`; [`Error::Length`] when a slice or view disagrees with the shape; [`Error::Feature`].
pub fn attend(
    isa: Isa,
    shape: &AttentionShape,
    queries: &[f32],
    keys: Floats<'_>,
    values: Floats<'_>,
    mut out: MatrixMut<'_>,
) -> Result<(), Error> {
    let positions = check(shape, queries, keys, values, &out)?;
    match keys {
        Floats::F32(_) => Feature::KvF32.require()?,
        Floats::F16(_) => Feature::KvF16.require()?,
    }
    let shape = &shape.positive();
    for token in 0..shape.tokens {
        let (start, end) = visible_range(shape.visible, token, positions);
        let queries = queries
            .get(token * shape.query_stride..)
            .ok_or(Error::Length(Operand::Queries))?;
        let queries = queries
            .get(..shape.group * shape.head_dim)
            .ok_or(Error::Length(Operand::Queries))?;
        let out = out.row_mut(token).ok_or(Error::Length(Operand::Output))?;
        out.fill(0.0);
        let heads = queries
            .chunks((HEADS * shape.head_dim).max(1))
            .zip(out.chunks_mut((HEADS * shape.value_dim).max(1)));
        for (queries, out) in heads {
            match (keys, values) {
                (Floats::F32(keys), Floats::F32(values)) if Feature::KvF32.is_built() => {
                    let keys = keys
                        .get(start * shape.head_dim..end * shape.head_dim)
                        .unwrap_or(&[]);
                    let values = values
                        .get(start * shape.value_dim..end * shape.value_dim)
                        .unwrap_or(&[]);
                    online::heads_f32(isa, shape, queries, keys, values, out);
                }
                (Floats::F16(keys), Floats::F16(values)) if Feature::KvF16.is_built() => {
                    let keys = keys
                        .get(start * shape.head_dim..end * shape.head_dim)
                        .unwrap_or(&[]);
                    let values = values
                        .get(start * shape.value_dim..end * shape.value_dim)
                        .unwrap_or(&[]);
                    online::heads_f16(isa, shape, queries, keys, values, out);
                }
                // Refused already.
                _ => return Err(Error::Shape),
            }
        }
    }
    Ok(())
}

/// The first position that a token sees, and the one after the last.
fn visible_range(visible: Visible, token: usize, positions: usize) -> (usize, usize) {
    match visible {
        Visible::All => (0, positions),
        Visible::Causal { first, window } => {
            let seen = first.saturating_add(token).saturating_add(1);
            let end = seen.min(positions);
            let start = window.map_or(0, |window| seen.saturating_sub(window).min(end));
            (start, end)
        }
    }
}

/// Checks all lengths and returns the number of positions.
fn check(
    shape: &AttentionShape,
    queries: &[f32],
    keys: Floats<'_>,
    values: Floats<'_>,
    out: &MatrixMut<'_>,
) -> Result<usize, Error> {
    if matches!(keys, Floats::F32(_)) != matches!(values, Floats::F32(_)) {
        return Err(Error::Shape);
    }
    check_queries(shape, queries, out)?;
    let positions = keys.len() / shape.head_dim.max(1);
    if positions * shape.head_dim != keys.len() {
        return Err(Error::Length(Operand::Keys));
    }
    if positions.checked_mul(shape.value_dim) != Some(values.len()) {
        return Err(Error::Length(Operand::CachedValues));
    }
    Ok(positions)
}

/// Checks what doesn't depend on the cache; returns the values of one token's queries.
fn check_queries(
    shape: &AttentionShape,
    queries: &[f32],
    out: &MatrixMut<'_>,
) -> Result<usize, Error> {
    let width = shape
        .group
        .checked_mul(shape.head_dim)
        .ok_or(Error::Overflow)?;
    let out_width = shape
        .group
        .checked_mul(shape.value_dim)
        .ok_or(Error::Overflow)?;
    if width == 0 || out_width == 0 || (shape.tokens > 1 && shape.query_stride < width) {
        return Err(Error::Shape);
    }
    let needed = match shape.tokens.checked_sub(1) {
        None => 0,
        Some(last) => last
            .checked_mul(shape.query_stride)
            .and_then(|n| n.checked_add(width))
            .ok_or(Error::Overflow)?,
    };
    if queries.len() < needed {
        return Err(Error::Length(Operand::Queries));
    }
    if out.rows() != shape.tokens || out.columns() != out_width {
        return Err(Error::Length(Operand::Output));
    }
    Ok(width)
}

#[cfg(test)]
mod tests;
