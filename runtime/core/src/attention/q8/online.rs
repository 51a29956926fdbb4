//! The online softmax over an 8-bit cache, and what an instruction set brings for it.

use super::plain::exp2_negated;
use super::rows::{Q8_POSITIONS, Q8Groups, QUERY_BLOCKS, Queries, SHARED, q8_columns, q8_scales};
use crate::attention::AttentionShape;
use crate::attention::online::{BLOCK, cap};
use crate::math::ROUND;
use crate::pieces::{pieces, pieces_mut};
use core::ops::Range;

/// Some query heads over one head's keys and values.
pub(super) struct Call<'a> {
    pub shape: &'a AttentionShape,
    /// Positions that the token sees: there are keys and values for all of them.
    pub visible: Range<usize>,
    pub queries: &'a Queries,
    pub keys: Q8Groups<'a>,
    pub values: Q8Groups<'a>,
}

/// A group of keys, and the queries that they are multiplied by.
#[derive(Clone, Copy)]
pub(super) struct KeyGroup {
    /// Blocks of a row.
    pub blocks: usize,
    /// `[heads, blocks, 32]`.
    pub queries: *const i8,
    /// `[blocks, heads]`, and readable four at a time.
    pub query_scales: *const f32,
    /// `[heads, blocks]`, for kernels that multiply unsigned codes.
    #[cfg(target_arch = "x86_64")]
    pub query_sums: *const i32,
    /// `[blocks, 8, 16 positions, 4]`.
    pub keys: *const i8,
    /// `[blocks, 16 positions]`.
    pub key_scales: *const f32,
}

/// A block of columns of the values of one or two groups, and the outputs that they are added to.
#[derive(Clone, Copy)]
pub(super) struct ValueBlock {
    /// Groups: 1 or 2.
    pub groups: usize,
    /// Four positions' values `[32 columns, 4]`, the next four's `stride` bytes later.
    pub values: *const i8,
    /// See `values`.
    pub stride: usize,
    /// `[32 columns]` of the first head's output, the next head's `out_stride` numbers later.
    pub out: *mut f32,
    /// See `out`.
    pub out_stride: usize,
}

/// The steps of an instruction set. Each gives the bits of [`Plain`](super::plain::Plain).
pub(super) trait Kernel {
    /// The name for reports.
    const NAME: &'static str;

    /// The scores of sixteen keys with `N` queries, which go to `scores`, `BLOCK` numbers from head to head.
    ///
    /// # Safety
    /// All that the group names must be readable, sixteen scores of each head writable, `blocks` not 0, and the CPU have the
    /// instruction set.
    unsafe fn scores<const N: usize>(group: &KeyGroup, scores: *mut f32);

    /// Turns each head's scores into weights against its running maximum, rounded to a whole number. Updates that and the
    /// running sum; returns the factors for what was summed before.
    ///
    /// # Safety
    /// The CPU must have the instruction set.
    unsafe fn weights<const N: usize>(
        scores: &mut [[f32; BLOCK]; N],
        state: &mut [Running; N],
    ) -> [f32; N];

    /// Rounds each head's weights times scales to codes from 0 to 127; returns the scales of the codes.
    ///
    /// # Safety
    /// The CPU must have the instruction set.
    unsafe fn round<const N: usize>(
        weights: &[[f32; BLOCK]; N],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [[i8; BLOCK]; N],
    ) -> [f32; N];

    /// Adds values, weighted by each head's codes times its factor, to the outputs of `N` heads.
    ///
    /// # Safety
    /// All that the block names must be readable or writable, and the CPU have the instruction set.
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    );
}

/// What is known of a head's scores so far.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Running {
    /// The largest one, rounded.
    pub largest: f32,
    /// The sum of their weights.
    pub total: f32,
}

impl Running {
    /// Raises the maximum to a block's, rounded, and shrinks the sum; returns the factor, a power of two.
    #[inline(always)]
    pub(super) fn raise(&mut self, block_largest: f32) -> f32 {
        let rounded = (block_largest + ROUND) - ROUND;
        if rounded > self.largest {
            self.replace(rounded)
        } else {
            1.0
        }
    }

    /// Rare after the first block.
    #[cold]
    #[inline(never)]
    fn replace(&mut self, largest: f32) -> f32 {
        let mut shrink = 1.0;
        // Before the first block there is nothing to shrink.
        if self.largest > f32::NEG_INFINITY {
            shrink = exp2_negated(largest - self.largest);
            self.total *= shrink;
        }
        self.largest = largest;
        shrink
    }
}

/// `N` query heads over the visible keys and values; `out` `[N, value_dim]` starts as zeros. Lengths were checked by
/// [`attend_q8`](super::attend_q8).
#[inline(always)]
pub(super) fn heads<K: Kernel, const N: usize>(call: &Call<'_>, out: &mut [f32]) {
    let (shape, visible) = (call.shape, &call.visible);
    let (key_blocks, value_blocks) = (q8_scales(shape.head_dim), q8_scales(shape.value_dim));
    let groups = call.keys.scales.len() / (key_blocks * Q8_POSITIONS).max(1);
    let fits = visible.end <= groups * Q8_POSITIONS
        && call.keys.codes.len() == groups * Q8_POSITIONS * q8_columns(shape.head_dim)
        && call.values.scales.len() >= groups * Q8_POSITIONS * value_blocks
        && call.values.codes.len() >= groups * Q8_POSITIONS * q8_columns(shape.value_dim)
        && N * key_blocks <= QUERY_BLOCKS
        && out.len() == N * shape.value_dim;
    if !fits {
        return;
    }
    let mut state = [Running {
        largest: f32::NEG_INFINITY,
        total: 0.0,
    }; N];
    // Of a block: scores, then weights; their codes.
    let mut scores = [[0f32; BLOCK]; N];
    let mut codes = [[0i8; BLOCK]; N];
    // Scores count in powers of two.
    let log2 = AttentionShape {
        softcap: shape.softcap.map(|cap| cap * core::f32::consts::LOG2_E),
        ..*shape
    };
    let mut first = visible.start / BLOCK * BLOCK;
    while first < visible.end {
        let end = visible.end.min(first + BLOCK);
        let groups = (end - first).div_ceil(Q8_POSITIONS);
        let seen = visible.start.max(first) - first..end - first;
        let whole = seen.len() == BLOCK;
        for half in 0..groups {
            let group = first / Q8_POSITIONS + half;
            let at = group * key_blocks * Q8_POSITIONS;
            // SAFETY: `fits` has shown that the group and the queries are there, and half a block of scores has room for
            // sixteen. `K` is of an instruction set that the caller has.
            unsafe {
                let group = KeyGroup {
                    blocks: key_blocks,
                    queries: call.queries.codes.as_ptr().cast(),
                    query_scales: call.queries.scales.as_ptr(),
                    #[cfg(target_arch = "x86_64")]
                    query_sums: call.queries.sums.as_ptr(),
                    keys: call.keys.codes.as_ptr().add(at * SHARED),
                    key_scales: call.keys.scales.as_ptr().add(at),
                };
                K::scores::<N>(
                    &group,
                    scores.as_mut_ptr().cast::<f32>().add(half * Q8_POSITIONS),
                );
            }
        }
        if log2.softcap.is_some() {
            bound(&log2, scores.as_flattened_mut());
        }
        if !whole {
            scores
                .iter_mut()
                .for_each(|scores| outside(scores, &seen, f32::NEG_INFINITY));
        }
        // SAFETY: `K` is of an instruction set that the caller has.
        let shrink = unsafe { K::weights(&mut scores, &mut state) };
        if !whole {
            scores
                .iter_mut()
                .for_each(|scores| outside(scores, &seen, 0.0));
        }
        for (out, shrink) in out.chunks_exact_mut(shape.value_dim.max(1)).zip(shrink) {
            if shrink != 1.0 {
                out.iter_mut().for_each(|y| *y *= shrink);
            }
        }
        for block in 0..value_blocks {
            let group_scales = |half: usize| {
                let group = first / Q8_POSITIONS + half.min(groups - 1);
                let at = (group * value_blocks + block) * Q8_POSITIONS;
                call.values
                    .scales
                    .get(at..)
                    .and_then(|scales| scales.first_chunk())
            };
            let (Some(low), Some(high)) = (group_scales(0), group_scales(1)) else {
                return;
            };
            let mut own;
            let mut scales = [low, high];
            if !whole {
                // What lies where nothing is seen may be no number.
                own = [[0.0; Q8_POSITIONS]; 2];
                for (own, there) in own.iter_mut().zip(scales) {
                    own.copy_from_slice(there);
                }
                outside(own.as_flattened_mut(), &seen, 0.0);
                scales = own.each_ref();
            }
            // SAFETY: `K` is of an instruction set that the caller has.
            let factors = unsafe { K::round(&scores, scales, &mut codes) };
            let column = block * SHARED;
            let width = SHARED.min(shape.value_dim - column);
            let mut part = ValueBlock {
                groups,
                values: call.values.codes.as_ptr(),
                stride: value_blocks * SHARED * 4,
                out: out.as_mut_ptr(),
                out_stride: shape.value_dim,
            };
            let at = first * value_blocks * SHARED + column * 4;
            // SAFETY: `fits` has shown that the groups' values and the outputs are there; where the output has fewer columns
            // than a block, an array stands in for it.
            unsafe {
                part.values = part.values.add(at);
                if width == SHARED {
                    part.out = part.out.add(column);
                    K::weigh::<N>(&part, &codes, &factors);
                } else {
                    edge::<K, N>(part, shape.value_dim, width, column, &codes, &factors, out);
                }
            }
        }
        first += BLOCK;
    }
    for (out, Running { total, .. }) in out.chunks_exact_mut(shape.value_dim.max(1)).zip(state) {
        let factor = if total > 0.0 { 1.0 / total } else { total };
        out.iter_mut().for_each(|y| *y *= factor);
    }
}

/// Bounds scores, as few models do.
#[cold]
#[inline(never)]
fn bound(shape: &AttentionShape, scores: &mut [f32]) {
    cap(shape, scores, scores.len());
}

/// Fills what is outside of a range. Apart from its caller, whose registers the last block of all doesn't take.
#[cold]
#[inline(never)]
fn outside(numbers: &mut [f32], seen: &Range<usize>, filling: f32) {
    for (position, number) in numbers.iter_mut().enumerate() {
        if !seen.contains(&position) {
            *number = filling;
        }
    }
}

/// [`Kernel::weigh`] for the last block of a row that has only `width` columns.
///
/// # Safety
/// As `weigh`, but for the output.
#[inline(never)]
unsafe fn edge<K: Kernel, const N: usize>(
    mut part: ValueBlock,
    value_dim: usize,
    width: usize,
    column: usize,
    codes: &[[i8; BLOCK]; N],
    factors: &[f32; N],
    out: &mut [f32],
) {
    let mut results = [[0f32; SHARED]; N];
    for (results, out) in results.iter_mut().zip(pieces(out, value_dim)) {
        let out = out.get(column..column + width).unwrap_or(&[]);
        results.iter_mut().zip(out).for_each(|(to, y)| *to = *y);
    }
    part.out = results.as_mut_ptr().cast();
    part.out_stride = SHARED;
    // SAFETY: the results are whole blocks; the rest is the caller's promise.
    unsafe { K::weigh::<N>(&part, codes, factors) };
    for (results, out) in results.iter().zip(pieces_mut(out, value_dim)) {
        let out = out.get_mut(column..column + width).unwrap_or(&mut []);
        out.iter_mut().zip(results).for_each(|(y, from)| *y = *from);
    }
}
