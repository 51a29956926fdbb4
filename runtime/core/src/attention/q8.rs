//! Attention over a cache of 8-bit keys and values.
//!
//! A row of keys or values is cut into blocks of 32 numbers, each stored as `scale * code`: `scale = max|x| / 127` as f32, codes
//! as i8 rounded to nearest even. It takes 9/16 of the memory of f16. Widened, `code as f32 * scale` is one product, rounded
//! once; from there on all is as with a cache of f32, in the same order, so every instruction set gives the same bits.

use super::lanes::fma_lanes;
use super::online::{BLOCK, to_weights};
use super::{AttentionShape, HEADS, check_queries, visible_range};
use crate::math::{LANES, ROUND, sum_lanes, tanh};
use crate::vector::{for_each_isa, unrolled};
use crate::{Error, Isa, MatrixMut, Operand};

/// Numbers that share a scale.
const SHARED: usize = 32;

/// How many scales a row of `columns` numbers has.
pub const fn q8_scales(columns: usize) -> usize {
    columns.div_ceil(SHARED)
}

/// Rows of keys or values in 8 bits.
#[derive(Clone, Copy, Debug)]
pub struct Q8Rows<'a> {
    /// `[rows, columns]`.
    pub codes: &'a [i8],
    /// `[rows, q8_scales(columns)]`.
    pub scales: &'a [f32],
}

impl<'a> Q8Rows<'a> {
    /// The rows `start..end` of `columns` numbers each.
    fn rows(self, start: usize, end: usize, columns: usize) -> Q8Rows<'a> {
        let scales = q8_scales(columns);
        Q8Rows {
            codes: self
                .codes
                .get(start * columns..end * columns)
                .unwrap_or(&[]),
            scales: self.scales.get(start * scales..end * scales).unwrap_or(&[]),
        }
    }
}

/// Rounds a row `x` to 8 bits. A block with an infinity or a NaN gets a NaN scale, so that it isn't quietly wrong.
///
/// # Errors
/// [`Error::Length`] when `codes` isn't as long as `x`, or `scales` not [`q8_scales`] of that.
pub fn narrow_to_q8(
    isa: Isa,
    x: &[f32],
    codes: &mut [i8],
    scales: &mut [f32],
) -> Result<(), Error> {
    if x.len() != codes.len() || q8_scales(x.len()) != scales.len() {
        return Err(Error::Length(Operand::Output));
    }
    narrow(isa, x, codes, scales);
    Ok(())
}

for_each_isa! {
    fn narrow(x: &[f32], codes: &mut [i8], scales: &mut [f32]) {
        for ((x, codes), to_scale) in x.chunks(SHARED).zip(codes.chunks_mut(SHARED)).zip(scales) {
            let largest = x.iter().fold(0u32, |m, v| {
                let bits = v.to_bits() & 0x7FFF_FFFF;
                if bits > m { bits } else { m }
            });
            let amax = f32::from_bits(largest);
            let (scale, inverse) = if largest >= 0x7F80_0000 {
                (f32::NAN, 0.0)
            } else if amax < 1e-30 {
                (0.0, 0.0)
            } else {
                (amax / 127.0, 127.0 / amax)
            };
            *to_scale = scale;
            for (code, x) in codes.iter_mut().zip(x) {
                *code = (x * inverse + ROUND).to_bits() as u8 as i8;
            }
        }
    }
}

/// [`attend`](super::attend) over 8-bit keys and values.
///
/// # Errors
/// As `attend`.
pub fn attend_q8(
    isa: Isa,
    shape: &AttentionShape,
    queries: &[f32],
    keys: Q8Rows<'_>,
    values: Q8Rows<'_>,
    mut out: MatrixMut<'_>,
) -> Result<(), Error> {
    let width = check_queries(shape, queries, &out)?;
    let positions = keys.codes.len() / shape.head_dim;
    let whole = |rows: Q8Rows<'_>, columns: usize| {
        positions.checked_mul(columns) == Some(rows.codes.len())
            && positions.checked_mul(q8_scales(columns)) == Some(rows.scales.len())
    };
    if !whole(keys, shape.head_dim) {
        return Err(Error::Length(Operand::Keys));
    }
    if !whole(values, shape.value_dim) {
        return Err(Error::Length(Operand::CachedValues));
    }
    for token in 0..shape.tokens {
        let (start, end) = visible_range(shape.visible, token, positions);
        let queries = queries
            .get(token * shape.query_stride..)
            .and_then(|queries| queries.get(..width))
            .ok_or(Error::Length(Operand::Queries))?;
        let out = out.row_mut(token).ok_or(Error::Length(Operand::Output))?;
        out.fill(0.0);
        let keys = keys.rows(start, end, shape.head_dim);
        let values = values.rows(start, end, shape.value_dim);
        let heads = queries
            .chunks(HEADS * shape.head_dim)
            .zip(out.chunks_mut(HEADS * shape.value_dim));
        for (queries, out) in heads {
            match queries.len() / shape.head_dim {
                1 if HEADS > 1 => online::<1>(isa, shape, queries, keys, values, out),
                2 if HEADS > 1 => online::<2>(isa, shape, queries, keys, values, out),
                3 if HEADS > 1 => online::<3>(isa, shape, queries, keys, values, out),
                _ => online::<HEADS>(isa, shape, queries, keys, values, out),
            }
        }
    }
    Ok(())
}

for_each_isa! {
    /// `N` query heads over keys and values; `out` starts as zeros.
    fn online<const N: usize>(
        shape: &AttentionShape,
        queries: &[f32],
        keys: Q8Rows<'_>,
        values: Q8Rows<'_>,
        out: &mut [f32],
    ) {
        let (head_dim, value_dim) = (shape.head_dim, shape.value_dim);
        let mut largest = [f32::NEG_INFINITY; N];
        let mut total = [0f32; N];
        let mut heads = queries.chunks(head_dim);
        let queries: [&[f32]; N] = core::array::from_fn(|_| heads.next().unwrap_or(&[]));
        let keys = keys.codes.chunks(BLOCK * head_dim).zip(keys.scales.chunks(BLOCK * q8_scales(head_dim)));
        let values = values.codes.chunks(BLOCK * value_dim).zip(values.scales.chunks(BLOCK * q8_scales(value_dim)));
        for ((key_codes, key_scales), (value_codes, value_scales)) in keys.zip(values) {
            // Scores of positions that are not there are -∞ and get no weight.
            let mut scores = [[f32::NEG_INFINITY; BLOCK]; N];
            let mut visible = 0;
            let rows = key_codes.chunks_exact(head_dim).zip(key_scales.chunks_exact(q8_scales(head_dim)));
            for (codes, scales) in rows {
                let dots = dot::<N>(&queries, codes, scales);
                for (scores, dot) in scores.iter_mut().zip(dots) {
                    scores[visible % BLOCK] = dot * shape.scale;
                }
                visible += 1;
            }
            let state = largest.iter_mut().zip(&mut total);
            let outs = out.chunks_exact_mut(value_dim);
            for ((scores, out), (largest, total)) in scores.iter_mut().zip(outs).zip(state) {
                let scores = scores.get_mut(..visible.next_multiple_of(LANES)).unwrap_or(&mut []);
                if let Some(cap) = shape.softcap {
                    scores.iter_mut().take(visible).for_each(|s| *s = cap * tanh(*s / cap));
                }
                let shrink = to_weights(scores, largest, total);
                if shrink != 1.0 {
                    out.iter_mut().for_each(|y| *y *= shrink);
                }
            }
            weigh::<N>(value_dim, &scores, value_codes, value_scales, out);
        }
        for (out, total) in out.chunks_exact_mut(value_dim).zip(total) {
            let factor = if total > 0.0 { 1.0 / total } else { total };
            out.iter_mut().for_each(|y| *y *= factor);
        }
    }
}

/// The first sixteen of `items`, or all and zeros.
#[inline(always)]
fn sixteen<T: Copy + Default>(items: &[T]) -> [T; LANES] {
    match items.first_chunk::<LANES>() {
        Some(items) => *items,
        None => {
            let mut padded = [T::default(); LANES];
            padded.iter_mut().zip(items).for_each(|(p, &x)| *p = x);
            padded
        }
    }
}

#[inline(always)]
fn widen(codes: &[i8], scale: f32) -> [f32; LANES] {
    sixteen(codes).map(|code| f32::from(code) * scale)
}

/// The dot products of one key with `N` queries.
#[inline(always)]
fn dot<const N: usize>(queries: &[&[f32]; N], codes: &[i8], scales: &[f32]) -> [f32; N] {
    let mut lanes = [[0f32; LANES]; N];
    for (index, codes) in codes.chunks(LANES).enumerate() {
        let scale = scales.get(index * LANES / SHARED).copied().unwrap_or(0.0);
        let key = widen(codes, scale);
        unrolled!(head < N, at most 4, {
            let query = queries[head].get(index * LANES..).unwrap_or(&[]);
            fma_lanes(&mut lanes[head], &key, &sixteen(query));
        });
    }
    lanes.map(sum_lanes)
}

/// Adds the weighted values of a block to the outputs of `N` heads.
#[inline(always)]
fn weigh<const N: usize>(
    value_dim: usize,
    weights: &[[f32; BLOCK]; N],
    codes: &[i8],
    scales: &[f32],
    out: &mut [f32],
) {
    let shared = q8_scales(value_dim);
    for start in (0..value_dim).step_by(LANES) {
        let width = LANES.min(value_dim - start);
        let mut sums = [[0f32; LANES]; N];
        unrolled!(head < N, at most 4, {
            let out = out.get(head * value_dim + start..).unwrap_or(&[]);
            sums[head] = sixteen(out.get(..width).unwrap_or(&[]));
        });
        let rows = codes
            .chunks_exact(value_dim)
            .zip(scales.chunks_exact(shared));
        for (position, (codes, scales)) in rows.enumerate() {
            let scale = scales.get(start / SHARED).copied().unwrap_or(0.0);
            let value = widen(codes.get(start..start + width).unwrap_or(&[]), scale);
            unrolled!(head < N, at most 4, {
                fma_lanes(&mut sums[head], &value, &[weights[head][position % BLOCK]; LANES]);
            });
        }
        unrolled!(head < N, at most 4, {
            let out = out.get_mut(head * value_dim + start..).unwrap_or(&mut []);
            out.iter_mut().take(width).zip(sums[head]).for_each(|(y, s)| *y = s);
        });
    }
}
