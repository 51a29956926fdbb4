//! Attention of many tokens over many positions at once: encoders, where each token sees every other.
//!
//! `softmax(scale * q kᵀ + mask) v` for a tile of tokens, of which each has a vector lane of its own. Keys and values are
//! read where they are, one number for all lanes; so neither is turned, and no sum or maximum is taken across
//! lanes. The scores of a tile are kept: the tile is narrow enough for them to stay in the cache.
//!
//! For each token: `dot = fma(k, q, dot)` over the columns in order, `score = dot * scale` (and the mask); the weights are
//! `e^(score - max)`, summed in the order of the positions; `out = fma(weight, v, out)` over the positions in order, and
//! last `out * (1 / sum)`. No order is left to the instruction set, so all give the same bits.

#[cfg(target_arch = "x86_64")]
use super::products::Avx512;
use super::products::{Lanes, Plain, Products};
use crate::math::{LANES, exp};
use crate::{Error, Isa, MatrixMut, Operand};

/// The shapes and constants of a call of [`attend_tiled`]: one query head, one key and value head.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TiledShape {
    /// Tokens that ask.
    pub tokens: usize,
    /// Positions that are seen.
    pub positions: usize,
    /// Values of one query or key.
    pub head_dim: usize,
    /// Values of one value.
    pub value_dim: usize,
    /// Values from one token's query to the next.
    pub query_stride: usize,
    /// Values from one position's key to the next.
    pub key_stride: usize,
    /// Values from one position's value to the next.
    pub value_stride: usize,
    /// Factor of the scores, usually `1 / √head_dim`.
    pub scale: f32,
}

/// What a token sees, and how much of it. Token `t`, position `p` is at `t * stride + p`; a stride of 0 is one row for all.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// Everything.
    None,
    /// What is `true`. A token that sees nothing spreads evenly over all positions.
    Keep {
        /// The rows.
        rows: &'a [bool],
        /// From one row to the next.
        stride: usize,
    },
    /// Everything, with this added to the scores; `-∞` hides.
    Add {
        /// The rows.
        rows: &'a [f32],
        /// From one row to the next.
        stride: usize,
    },
}

/// The most vectors a tile of tokens has.
const MAX_VECTORS: usize = 2;

/// Values of working memory that [`attend_tiled`] needs.
///
/// # Errors
/// [`Error::Overflow`].
pub fn tiled_scratch(shape: &TiledShape) -> Result<usize, Error> {
    let rows = shape
        .positions
        .checked_add(shape.head_dim)
        .and_then(|rows| rows.checked_add(shape.value_dim));
    rows.and_then(|rows| rows.checked_mul(MAX_VECTORS * LANES))
        .ok_or(Error::Overflow)
}

/// Attention of one query head of `tokens` tokens over the keys and values of `positions` positions.
///
/// Rows start at multiples of their strides; `scratch` has at least [`tiled_scratch`] values; `out` is
/// `[tokens, value_dim]`. A token whose scores are all `-∞` gets zeros.
///
/// # Errors
/// [`Error::Shape`] for a zero dimension, [`Error::Length`] when a slice or view disagrees with the shape.
#[allow(
    clippy::too_many_arguments,
    reason = "every buffer is the caller's, as without a heap it must be"
)]
pub fn attend_tiled(
    isa: Isa,
    shape: &TiledShape,
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    mask: Mask<'_>,
    scratch: &mut [f32],
    mut out: MatrixMut<'_>,
) -> Result<(), Error> {
    check(shape, queries, keys, values, mask, &out)?;
    let scratch = scratch
        .get_mut(..tiled_scratch(shape)?)
        .ok_or(Error::Length(Operand::Activations))?;
    let call = Call {
        shape,
        queries,
        keys,
        values,
        mask,
    };
    let (scratch, _) = scratch.as_chunks_mut::<LANES>();
    match isa.kind() {
        // SAFETY: `check` is what `run` asks for, and the `Isa` proves that the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx2 => unsafe { avx2(&call, scratch, &mut out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx512Vnni => unsafe { avx512(&call, scratch, &mut out) },
        // SAFETY: `check` is what `run` asks for.
        _ => unsafe { run::<Plain, 4, 1>(&call, scratch, &mut out) },
    }
    Ok(())
}

fn check(
    shape: &TiledShape,
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    mask: Mask<'_>,
    out: &MatrixMut<'_>,
) -> Result<(), Error> {
    if shape.tokens == 0 || shape.positions == 0 || shape.head_dim == 0 || shape.value_dim == 0 {
        return Err(Error::Shape);
    }
    let holds = |len: usize, rows: usize, stride: usize, columns: usize| {
        let end = (rows - 1).checked_mul(stride)?.checked_add(columns)?;
        (end <= len).then_some(())
    };
    let TiledShape {
        tokens,
        positions,
        head_dim,
        value_dim,
        ..
    } = *shape;
    holds(queries.len(), tokens, shape.query_stride, head_dim)
        .ok_or(Error::Length(Operand::Queries))?;
    holds(keys.len(), positions, shape.key_stride, head_dim).ok_or(Error::Length(Operand::Keys))?;
    holds(values.len(), positions, shape.value_stride, value_dim)
        .ok_or(Error::Length(Operand::CachedValues))?;
    let (mask_len, mask_stride) = match mask {
        Mask::None => (positions, 0),
        Mask::Keep { rows, stride } => (rows.len(), stride),
        Mask::Add { rows, stride } => (rows.len(), stride),
    };
    holds(mask_len, tokens, mask_stride, positions).ok_or(Error::Length(Operand::Parameters))?;
    if out.rows() != tokens || out.columns() != value_dim {
        return Err(Error::Length(Operand::Output));
    }
    Ok(())
}

/// A call whose slices fit its shape.
struct Call<'a> {
    shape: &'a TiledShape,
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    mask: Mask<'a>,
}

/// # Safety
/// As [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(call: &Call<'_>, scratch: &mut [Lanes], out: &mut MatrixMut<'_>) {
    // SAFETY: the caller's promise.
    unsafe { run::<Plain, 4, 1>(call, scratch, out) }
}

/// # Safety
/// As [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512(call: &Call<'_>, scratch: &mut [Lanes], out: &mut MatrixMut<'_>) {
    // SAFETY: the caller's promise.
    unsafe { run::<Avx512, 8, MAX_VECTORS>(call, scratch, out) }
}

/// All tokens, `VECTORS` vectors of them at a time while there are so many, then one.
///
/// # Safety
/// The slices of the call and the output must fit the shape, and `scratch` have [`tiled_scratch`] values.
#[inline(always)]
unsafe fn run<P: Products, const ROWS: usize, const VECTORS: usize>(
    call: &Call<'_>,
    scratch: &mut [Lanes],
    out: &mut MatrixMut<'_>,
) {
    let mut first = 0;
    while first < call.shape.tokens {
        let left = call.shape.tokens - first;
        // SAFETY: the caller's promise, and `first` is one of the tokens.
        unsafe {
            if left > LANES {
                tile::<P, ROWS, VECTORS>(call, first, scratch, out);
                first += VECTORS * LANES;
            } else {
                tile::<P, ROWS, 1>(call, first, scratch, out);
                first += LANES;
            }
        }
    }
}

/// The first `len` and the rest; that there are as many is the promise of [`run`]'s caller.
#[inline(always)]
fn split(scratch: &mut [Lanes], len: usize) -> (&mut [Lanes], &mut [Lanes]) {
    scratch.split_at_mut_checked(len).unwrap_or_default()
}

/// The tokens from `first` on.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn tile<P: Products, const ROWS: usize, const VECTORS: usize>(
    call: &Call<'_>,
    first: usize,
    scratch: &mut [Lanes],
    out: &mut MatrixMut<'_>,
) {
    let shape = call.shape;
    let count = (shape.tokens - first).min(VECTORS * LANES);
    let (queries, rest) = split(scratch, shape.head_dim * VECTORS);
    let (scores, rest) = split(rest, shape.positions * VECTORS);
    let (results, _) = split(rest, shape.value_dim * VECTORS);
    queries.fill([0.0; LANES]);
    for lane in 0..count {
        let start = (first + lane) * shape.query_stride;
        let query = call.queries.get(start..start + shape.head_dim);
        let column = queries.as_flattened_mut().iter_mut().skip(lane);
        let column = column.step_by(VECTORS * LANES);
        column
            .zip(query.unwrap_or_default())
            .for_each(|(to, &x)| *to = x);
    }
    // SAFETY: the caller's promise: `scores` has a row for each position.
    let largest = unsafe { score::<P, ROWS, VECTORS>(call, first, queries, scores) };
    let factors = to_weights::<VECTORS>(scores, &largest);
    // SAFETY: the caller's promise.
    unsafe { weigh::<P, ROWS, VECTORS>(call, scores, &factors, results) };
    for lane in 0..count {
        let column = results.as_flattened().iter().skip(lane);
        let column = column.step_by(VECTORS * LANES);
        let row = out.row_mut(first + lane).unwrap_or_default();
        row.iter_mut().zip(column).for_each(|(to, &x)| *to = x);
    }
}

/// The scores of a tile, `[positions, VECTORS]`; returns the largest of each token.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn score<P: Products, const ROWS: usize, const VECTORS: usize>(
    call: &Call<'_>,
    first: usize,
    queries: &[Lanes],
    scores: &mut [Lanes],
) -> [Lanes; VECTORS] {
    let mut largest = [[f32::NEG_INFINITY; LANES]; VECTORS];
    let mut position = 0;
    while position < call.shape.positions {
        // SAFETY: the caller's promise, and there are so many positions left.
        unsafe {
            if call.shape.positions - position >= ROWS {
                score_rows::<P, ROWS, VECTORS>(
                    call,
                    first,
                    position,
                    queries,
                    scores,
                    &mut largest,
                );
                position += ROWS;
            } else {
                score_rows::<P, 1, VECTORS>(call, first, position, queries, scores, &mut largest);
                position += 1;
            }
        }
    }
    largest
}

/// The scores of the `ROWS` positions from `position` on.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn score_rows<P: Products, const ROWS: usize, const VECTORS: usize>(
    call: &Call<'_>,
    first: usize,
    position: usize,
    queries: &[Lanes],
    scores: &mut [Lanes],
    largest: &mut [Lanes; VECTORS],
) {
    let stride = call.shape.key_stride;
    // SAFETY: the caller's promise: the keys have these positions, each with a value for every query's column.
    let mut dots = unsafe {
        let keys = call.keys.as_ptr().add(position * stride);
        P::products::<ROWS, VECTORS>(keys, stride, 1, queries)
    };
    let rows = scores.as_chunks_mut::<VECTORS>().0.iter_mut();
    for (row, scores) in rows.skip(position).take(ROWS).enumerate() {
        let found = &mut dots[row];
        found
            .as_flattened_mut()
            .iter_mut()
            .for_each(|s| *s *= call.shape.scale);
        call.mask.apply(
            first,
            call.shape.tokens,
            position + row,
            found.as_flattened_mut(),
        );
        for (largest, &score) in largest
            .as_flattened_mut()
            .iter_mut()
            .zip(found.as_flattened())
        {
            *largest = if score > *largest { score } else { *largest };
        }
        *scores = *found;
    }
}

impl Mask<'_> {
    /// Changes the scores that the tokens from `first` on have at `position`.
    #[inline(always)]
    fn apply(self, first: usize, tokens: usize, position: usize, scores: &mut [f32]) {
        match self {
            Mask::None => {}
            Mask::Keep { rows, stride } => {
                for (score, token) in scores.iter_mut().zip(first..tokens) {
                    if !rows
                        .get(token * stride + position)
                        .copied()
                        .unwrap_or(false)
                    {
                        *score = f32::MIN;
                    }
                }
            }
            Mask::Add { rows, stride } => {
                for (score, token) in scores.iter_mut().zip(first..tokens) {
                    *score += rows.get(token * stride + position).copied().unwrap_or(0.0);
                }
            }
        }
    }
}

/// Turns scores into weights; returns the inverse of each token's sum of weights, or 0 for a token that sees nothing.
#[inline(always)]
fn to_weights<const VECTORS: usize>(
    scores: &mut [Lanes],
    largest: &[Lanes; VECTORS],
) -> [Lanes; VECTORS] {
    let mut sums = [[0f32; LANES]; VECTORS];
    for scores in scores.as_chunks_mut::<VECTORS>().0 {
        for ((scores, largest), sums) in scores.iter_mut().zip(largest).zip(&mut sums) {
            for ((score, largest), sum) in scores.iter_mut().zip(largest).zip(sums) {
                *score = exp(*score - largest);
                *sum += *score;
            }
        }
    }
    for (sums, largest) in sums.iter_mut().zip(largest) {
        for (sum, &largest) in sums.iter_mut().zip(largest) {
            *sum = if largest == f32::NEG_INFINITY {
                0.0
            } else {
                1.0 / *sum
            };
        }
    }
    sums
}

/// The weighted values of a tile, `[value_dim, VECTORS]`.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn weigh<P: Products, const ROWS: usize, const VECTORS: usize>(
    call: &Call<'_>,
    weights: &[Lanes],
    factors: &[Lanes; VECTORS],
    results: &mut [Lanes],
) {
    let mut column = 0;
    while column < call.shape.value_dim {
        // SAFETY: the caller's promise, and there are so many columns left.
        unsafe {
            if call.shape.value_dim - column >= ROWS {
                weigh_columns::<P, ROWS, VECTORS>(call, weights, factors, column, results);
                column += ROWS;
            } else {
                weigh_columns::<P, 1, VECTORS>(call, weights, factors, column, results);
                column += 1;
            }
        }
    }
}

/// The `COLUMNS` columns of the values from `column` on.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn weigh_columns<P: Products, const COLUMNS: usize, const VECTORS: usize>(
    call: &Call<'_>,
    weights: &[Lanes],
    factors: &[Lanes; VECTORS],
    column: usize,
    results: &mut [Lanes],
) {
    // SAFETY: the caller's promise: the values have a row for each position, with these columns.
    let sums = unsafe {
        let values = call.values.as_ptr().add(column);
        P::products::<COLUMNS, VECTORS>(values, 1, call.shape.value_stride, weights)
    };
    let rows = results.as_chunks_mut::<VECTORS>().0.iter_mut();
    for (result, sums) in rows.skip(column).zip(sums) {
        for ((result, sums), factors) in result.iter_mut().zip(sums).zip(factors) {
            for ((to, sum), factor) in result.iter_mut().zip(sums).zip(factors) {
                *to = if *factor == 0.0 { 0.0 } else { sum * factor };
            }
        }
    }
}

#[cfg(test)]
mod tests;
