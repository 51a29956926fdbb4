//! Attention of the query heads that share one key/value head, over a cache of keys and values.
//!
//! `softmax(scale * q kᵀ) v` with an online softmax: positions are taken in blocks of 32, with a running
//! maximum and sum, so no row of scores is ever stored. M. Milakov and N. Gimelshein, «Online normalizer
//! calculation for softmax», 2018, arXiv 1805.02867; T. Dao and others, «FlashAttention», 2022, arXiv
//! 2205.14135. Grouped queries: J. Ainslie and others, «GQA», 2023, arXiv 2305.13245.
//!
//! Keys and values are read (and f16 widened) once for up to four query heads. Dot products run over sixteen
//! sums added as a tree, and blocks start at the first visible position, so a token gets the same bits on
//! every instruction set, and whether it came alone or in a prompt.

mod lanes;

pub use lanes::narrow_to_f16;

use crate::math::{LANES, exp, sum_lanes};
use crate::{Error, Floats, Isa, MatrixMut, Operand};
use lanes::{Load, fma_lanes};

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

/// Positions of a block of the online softmax.
const BLOCK: usize = 32;
/// Query heads that are computed side by side.
const HEADS: usize = 4;

/// Attention of `group` query heads of `tokens` tokens over one key/value head.
///
/// `queries` holds token `t`, head `h` at `t * query_stride + h * head_dim`. `keys` is `[positions, head_dim]`, `values`
/// `[positions, value_dim]`, both f32 or both f16. `out` is `[tokens, group * value_dim]`. A token that sees no
/// position gets zeros.
///
/// # Errors
/// [`Error::Shape`] for a zero dimension, keys and values of different width, or a stride below
/// `group * head_dim`; [`Error::Length`] when a slice or view disagrees with the shape.
pub fn attend(
    isa: Isa,
    shape: &AttentionShape,
    queries: &[f32],
    keys: Floats<'_>,
    values: Floats<'_>,
    mut out: MatrixMut<'_>,
) -> Result<(), Error> {
    let positions = check(shape, queries, keys, values, &out)?;
    for token in 0..shape.tokens {
        let (start, end) = match shape.visible {
            Visible::All => (0, positions),
            Visible::Causal { first, window } => {
                let end = first.saturating_add(token).saturating_add(1).min(positions);
                (
                    window.map_or(0, |window| {
                        first
                            .saturating_add(token)
                            .saturating_add(1)
                            .saturating_sub(window)
                            .min(end)
                    }),
                    end,
                )
            }
        };
        let queries = queries
            .get(token * shape.query_stride..)
            .ok_or(Error::Length(Operand::Queries))?;
        let queries = queries
            .get(..shape.group * shape.head_dim)
            .ok_or(Error::Length(Operand::Queries))?;
        let out = out.row_mut(token).ok_or(Error::Length(Operand::Output))?;
        out.fill(0.0);
        let heads = queries
            .chunks(HEADS * shape.head_dim)
            .zip(out.chunks_mut(HEADS * shape.value_dim));
        for (queries, out) in heads {
            match (keys, values) {
                (Floats::F32(keys), Floats::F32(values)) => {
                    let keys = keys
                        .get(start * shape.head_dim..end * shape.head_dim)
                        .unwrap_or(&[]);
                    let values = values
                        .get(start * shape.value_dim..end * shape.value_dim)
                        .unwrap_or(&[]);
                    lanes::heads_f32(isa, shape, queries, keys, values, out);
                }
                (Floats::F16(keys), Floats::F16(values)) => {
                    let keys = keys
                        .get(start * shape.head_dim..end * shape.head_dim)
                        .unwrap_or(&[]);
                    let values = values
                        .get(start * shape.value_dim..end * shape.value_dim)
                        .unwrap_or(&[]);
                    lanes::heads_f16(isa, shape, queries, keys, values, out);
                }
                _ => return Err(Error::Shape),
            }
        }
    }
    Ok(())
}

/// Checks all lengths and returns the number of positions.
fn check(
    shape: &AttentionShape,
    queries: &[f32],
    keys: Floats<'_>,
    values: Floats<'_>,
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
    if matches!(keys, Floats::F32(_)) != matches!(values, Floats::F32(_)) {
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
    let positions = keys.len() / shape.head_dim;
    if positions * shape.head_dim != keys.len() {
        return Err(Error::Length(Operand::Keys));
    }
    if positions.checked_mul(shape.value_dim) != Some(values.len()) {
        return Err(Error::Length(Operand::CachedValues));
    }
    if out.rows() != shape.tokens || out.columns() != out_width {
        return Err(Error::Length(Operand::Output));
    }
    Ok(positions)
}

/// Up to [`HEADS`] query heads over the visible keys and values. `out` starts as zeros.
#[inline(always)]
fn heads<L: Load>(
    shape: &AttentionShape,
    queries: &[f32],
    keys: &[L::Item],
    values: &[L::Item],
    out: &mut [f32],
) {
    match queries.len() / shape.head_dim {
        1 => online::<L, 1>(shape, queries, keys, values, out),
        2 => online::<L, 2>(shape, queries, keys, values, out),
        3 => online::<L, 3>(shape, queries, keys, values, out),
        _ => online::<L, HEADS>(shape, queries, keys, values, out),
    }
}

#[inline(always)]
fn online<L: Load, const N: usize>(
    shape: &AttentionShape,
    queries: &[f32],
    keys: &[L::Item],
    values: &[L::Item],
    out: &mut [f32],
) {
    let mut largest = [f32::NEG_INFINITY; N];
    let mut total = [0f32; N];
    let blocks = keys
        .chunks(BLOCK * shape.head_dim)
        .zip(values.chunks(BLOCK * shape.value_dim));
    for (keys, values) in blocks {
        // Scores of positions that are not there stay -∞ and get no weight.
        let mut scores = [[f32::NEG_INFINITY; BLOCK]; N];
        for (position, key) in keys.chunks_exact(shape.head_dim).enumerate() {
            let dots = dot::<L, N>(queries, key);
            for (scores, dot) in scores.iter_mut().zip(dots) {
                scores[position % BLOCK] = dot * shape.scale;
            }
        }
        for head in 0..N {
            if let Some(cap) = shape.softcap {
                scores[head]
                    .iter_mut()
                    .for_each(|s| *s = cap * crate::math::tanh(*s / cap));
                let visible = keys.len() / shape.head_dim;
                scores[head]
                    .iter_mut()
                    .skip(visible)
                    .for_each(|s| *s = f32::NEG_INFINITY);
            }
            let block_largest = scores[head]
                .iter()
                .fold(f32::NEG_INFINITY, |m, &s| if s > m { s } else { m });
            if block_largest > largest[head] {
                // exp(-∞ - finite) is 0: the first block scales zeros.
                let shrink = exp(largest[head] - block_largest);
                largest[head] = block_largest;
                total[head] *= shrink;
                if let Some(out) = out.get_mut(head * shape.value_dim..(head + 1) * shape.value_dim)
                {
                    out.iter_mut().for_each(|y| *y *= shrink);
                }
            }
            let mut lanes = [0f32; LANES];
            for scores in scores[head].as_chunks_mut::<LANES>().0 {
                for (lane, score) in lanes.iter_mut().zip(scores) {
                    *score = exp(*score - largest[head]);
                    *lane += *score;
                }
            }
            total[head] += sum_lanes(lanes);
        }
        weigh::<L, N>(shape.value_dim, &scores, values, out);
    }
    for (out, total) in out.chunks_exact_mut(shape.value_dim).zip(total) {
        let factor = if total > 0.0 { 1.0 / total } else { total };
        out.iter_mut().for_each(|y| *y *= factor);
    }
}

/// The dot products of one key with `N` queries.
#[inline(always)]
fn dot<L: Load, const N: usize>(queries: &[f32], key: &[L::Item]) -> [f32; N] {
    let mut lanes = [[0f32; LANES]; N];
    for (index, key_part) in key.chunks(LANES).enumerate() {
        let k = L::load(key_part);
        for (head, lanes) in lanes.iter_mut().enumerate() {
            let start = head * key.len() + index * LANES;
            let q = lanes::F32::load(queries.get(start..start + key_part.len()).unwrap_or(&[]));
            fma_lanes(lanes, &k, &q);
        }
    }
    lanes.map(sum_lanes)
}

/// Adds the weighted values of a block to the outputs of `N` heads.
#[inline(always)]
fn weigh<L: Load, const N: usize>(
    value_dim: usize,
    weights: &[[f32; BLOCK]; N],
    values: &[L::Item],
    out: &mut [f32],
) {
    for start in (0..value_dim).step_by(LANES) {
        let width = LANES.min(value_dim - start);
        let mut sums = [[0f32; LANES]; N];
        for (head, sums) in sums.iter_mut().enumerate() {
            let at = head * value_dim + start;
            *sums = lanes::F32::load(out.get(at..at + width).unwrap_or(&[]));
        }
        for (position, value) in values.chunks_exact(value_dim).enumerate() {
            let v = L::load(value.get(start..start + width).unwrap_or(&[]));
            for (sums, weights) in sums.iter_mut().zip(weights) {
                fma_lanes(sums, &v, &[weights[position % BLOCK]; LANES]);
            }
        }
        for (head, sums) in sums.iter().enumerate() {
            let at = head * value_dim + start;
            if let Some(out) = out.get_mut(at..at + width) {
                out.iter_mut().zip(sums).for_each(|(y, s)| *y = *s);
            }
        }
    }
}

#[cfg(test)]
mod tests;
