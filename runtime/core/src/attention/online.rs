//! The online softmax of up to four query heads, and its copies for the instruction sets.

use super::lanes::{F16, F32, Load, fma_lanes, padded};
use super::{AttentionShape, HEADS};
use crate::math::{LANES, exp_sum_lanes, larger, largest_lane, seldom_exp, sum_lanes, tanh};
use crate::vector::unrolled;
use crate::{Isa, f16};
use core::marker::PhantomData;

/// Positions of a block of the online softmax.
pub(super) const BLOCK: usize = 32;

/// The instruction set's copy of [`heads`] for each kind of cache.
macro_rules! for_cache {
    ($name:ident, $item:ty, $plain:ty, $x86:ty) => {
        pub(super) fn $name(
            isa: Isa,
            shape: &AttentionShape,
            q: &[f32],
            k: &[$item],
            v: &[$item],
            out: &mut [f32],
        ) {
            // The caller knows that no width is 0; said again for the compiler, which doesn't look there.
            let shape = &shape.positive();

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(shape: &AttentionShape, q: &[f32], k: &[$item], v: &[$item], out: &mut [f32]) {
                heads::<$x86>(shape, q, k, v, out);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512(
                shape: &AttentionShape,
                q: &[f32],
                k: &[$item],
                v: &[$item],
                out: &mut [f32],
            ) {
                if !super::avx512::takes(shape) {
                    return heads::<$x86>(shape, q, k, v, out);
                }
                match q.len() / shape.head_dim {
                    1 => super::avx512::online::<$item, 1>(shape, q, k, v, out),
                    2 => super::avx512::online::<$item, 2>(shape, q, k, v, out),
                    3 => super::avx512::online::<$item, 3>(shape, q, k, v, out),
                    _ => super::avx512::online::<$item, HEADS>(shape, q, k, v, out),
                }
            }

            #[cfg(target_arch = "aarch64")]
            if isa != Isa::SCALAR && super::neon::takes(shape) {
                // SAFETY: every AArch64 instruction set but the scalar one has Advanced SIMD.
                return unsafe {
                    match q.len() / shape.head_dim {
                        1 => super::neon::heads::<$item, 1>(shape, q, k, v, out),
                        2 => super::neon::heads::<$item, 2>(shape, q, k, v, out),
                        3 => super::neon::heads::<$item, 3>(shape, q, k, v, out),
                        _ => super::neon::heads::<$item, HEADS>(shape, q, k, v, out),
                    }
                };
            }

            match isa.kind() {
                // SAFETY: the `Isa` proves that the CPU has these features.
                #[cfg(target_arch = "x86_64")]
                crate::IsaKind::Avx2 => unsafe { avx2(shape, q, k, v, out) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::IsaKind::Avx512Vnni => unsafe { avx512(shape, q, k, v, out) },
                _ => heads::<$plain>(shape, q, k, v, out),
            }
        }
    };
}

for_cache!(heads_f32, f32, F32, F32);
for_cache!(heads_f16, f16, F16, super::lanes::F16c);

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
        1 if HEADS > 1 => some_heads::<L, 1>(shape, queries, keys, values, out),
        2 if HEADS > 1 => some_heads::<L, 2>(shape, queries, keys, values, out),
        3 if HEADS > 1 => some_heads::<L, 3>(shape, queries, keys, values, out),
        _ => some_heads::<L, HEADS>(shape, queries, keys, values, out),
    }
}

#[inline(always)]
fn some_heads<L: Load, const N: usize>(
    shape: &AttentionShape,
    queries: &[f32],
    keys: &[L::Item],
    values: &[L::Item],
    out: &mut [f32],
) {
    let mut heads = queries.chunks(shape.head_dim);
    let queries = core::array::from_fn(|_| heads.next().unwrap_or(&[]));
    let steps = Portable::<L, N> {
        shape,
        queries,
        load: PhantomData,
    };
    online(shape, keys, values, out, steps);
}

/// What an instruction set does with a block of keys and values. A trait and no closures, which the compiler would make
/// functions without the instruction set's features of.
pub(super) trait Steps<T, const N: usize> {
    /// Fills in the scores of the block's keys.
    fn dots(&self, keys: &[T], scores: &mut [[f32; BLOCK]; N]);

    /// Does what [`to_weights`] does.
    fn to_weights(&self, scores: &mut [f32], largest: &mut f32, total: &mut f32) -> f32;

    /// Adds the block's weighted values to the outputs.
    fn weigh(&self, weights: &[[f32; BLOCK]; N], values: &[T], out: &mut [f32]);
}

/// Plain Rust, with a way to load what is cached.
struct Portable<'a, L, const N: usize> {
    shape: &'a AttentionShape,
    queries: [&'a [f32]; N],
    load: PhantomData<L>,
}

impl<L: Load, const N: usize> Steps<L::Item, N> for Portable<'_, L, N> {
    #[inline(always)]
    fn dots(&self, keys: &[L::Item], scores: &mut [[f32; BLOCK]; N]) {
        for (position, key) in keys.chunks_exact(self.shape.head_dim).enumerate() {
            let dots = dot::<L, N>(&self.queries, key);
            for (scores, dot) in scores.iter_mut().zip(dots) {
                scores[position % BLOCK] = dot * self.shape.scale;
            }
        }
    }

    #[inline(always)]
    fn to_weights(&self, scores: &mut [f32], largest: &mut f32, total: &mut f32) -> f32 {
        to_weights(scores, largest, total)
    }

    #[inline(always)]
    fn weigh(&self, weights: &[[f32; BLOCK]; N], values: &[L::Item], out: &mut [f32]) {
        weigh::<L, N>(self.shape.value_dim, weights, values, out);
    }
}

/// The online softmax over blocks of keys and values.
#[inline(always)]
pub(super) fn online<T, const N: usize>(
    shape: &AttentionShape,
    keys: &[T],
    values: &[T],
    out: &mut [f32],
    steps: impl Steps<T, N>,
) {
    let mut largest = [f32::NEG_INFINITY; N];
    let mut total = [0f32; N];
    let blocks = keys
        .chunks((BLOCK * shape.head_dim).max(1))
        .zip(values.chunks((BLOCK * shape.value_dim).max(1)));
    for (keys, values) in blocks {
        // Scores of positions that are not there are -∞ and get no weight.
        let mut scores = [[f32::NEG_INFINITY; BLOCK]; N];
        let visible = keys.len() / shape.head_dim;
        steps.dots(keys, &mut scores);
        let state = largest.iter_mut().zip(&mut total);
        let outs = out.chunks_exact_mut(shape.value_dim);
        for ((scores, out), (largest, total)) in scores.iter_mut().zip(outs).zip(state) {
            let scores = scores
                .get_mut(..visible.next_multiple_of(LANES))
                .unwrap_or(&mut []);
            cap(shape, scores, visible);
            let shrink = steps.to_weights(scores, largest, total);
            if shrink != 1.0 {
                out.iter_mut().for_each(|y| *y *= shrink);
            }
        }
        steps.weigh(&scores, values, out);
    }
    for (out, total) in out.chunks_exact_mut(shape.value_dim).zip(total) {
        let factor = if total > 0.0 { 1.0 / total } else { total };
        out.iter_mut().for_each(|y| *y *= factor);
    }
}

/// Bounds the first `visible` scores of a block, if the model does.
#[inline(always)]
pub(super) fn cap(shape: &AttentionShape, scores: &mut [f32], visible: usize) {
    if let Some(cap) = shape.softcap {
        let scores = scores.iter_mut().take(visible);
        scores.for_each(|s| *s = cap * tanh(*s / cap));
    }
}

/// Turns the scores of a block, a multiple of sixteen, into weights against the running maximum. Updates that and the
/// running sum; returns the factor for what was summed before.
#[inline(always)]
pub(super) fn to_weights(scores: &mut [f32], largest: &mut f32, total: &mut f32) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for scores in scores.as_chunks::<LANES>().0 {
        for (lane, &score) in lanes.iter_mut().zip(scores) {
            *lane = larger(score, *lane);
        }
    }
    let shrink = raise(largest, total, largest_lane(lanes));
    let mut lanes = [0f32; LANES];
    exp_sum_lanes(scores.as_chunks_mut().0, *largest, &mut lanes);
    *total += sum_lanes(lanes);
    shrink
}

/// Raises the running maximum to a block's, if that is larger, and shrinks the running sum; returns the factor.
#[inline(always)]
pub(super) fn raise(largest: &mut f32, total: &mut f32, block_largest: f32) -> f32 {
    let mut shrink = 1.0;
    if block_largest > *largest {
        // Before the first block there is nothing to shrink.
        if *largest > f32::NEG_INFINITY {
            shrink = seldom_exp(*largest - block_largest);
            *total *= shrink;
        }
        *largest = block_largest;
    }
    shrink
}

/// The dot products of one key with `N` queries.
#[inline(always)]
fn dot<L: Load, const N: usize>(queries: &[&[f32]; N], key: &[L::Item]) -> [f32; N] {
    let mut lanes = [[0f32; LANES]; N];
    let (chunks, rest) = key.as_chunks::<LANES>();
    let query_chunks = queries.map(|query| query.as_chunks::<LANES>());
    for (index, key) in chunks.iter().enumerate() {
        let key = L::load(key);
        unrolled!(head < N, at most 4, {
            if let Some(query) = query_chunks[head].0.get(index) {
                fma_lanes(&mut lanes[head], &key, query);
            }
        });
    }
    if !rest.is_empty() {
        let key = L::load(&padded(rest));
        unrolled!(head < N, at most 4, {
            fma_lanes(&mut lanes[head], &key, &padded(query_chunks[head].1));
        });
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
        unrolled!(head < N, at most 4, {
            let out = out.get(head * value_dim + start..).unwrap_or(&[]);
            sums[head] = padded(out.get(..width).unwrap_or(&[]));
        });
        for (position, value) in values.chunks_exact(value_dim).enumerate() {
            let value = value.get(start..start + width).unwrap_or(&[]);
            let value = match value.first_chunk::<LANES>() {
                Some(value) => L::load(value),
                None => L::load(&padded(value)),
            };
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
