//! The online softmax with AVX-512: scores of sixteen keys at a time, added across lanes by turning them over.
//!
//! The portable code adds the sixteen lanes of every score by itself, which costs more than its dot product. Here
//! the sums of sixteen keys are turned over together, in the very order of `sum_lanes`, so the bits are the same.
//! For heads whose sizes are multiples of sixteen, as all common ones are; others take the portable code.

use super::AttentionShape;
use super::online::{BLOCK, cap, to_weights};
use crate::f16;
use crate::math::LANES;
use crate::vector::unrolled;
use core::arch::x86_64::*;

/// Groups of sixteen columns of the values that are summed side by side.
const CHUNKS: usize = 4;

/// What a cache holds, and how sixteen of them become floats.
pub(super) trait Cached: Copy {
    /// Widens sixteen numbers.
    ///
    /// # Safety
    /// Sixteen numbers must be readable at `at`, and the CPU must have AVX-512 F.
    unsafe fn load(at: *const Self) -> __m512;
}

impl Cached for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at) }
    }
}

impl Cached for f16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const f16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

/// Whether heads of this shape are computed here.
pub(super) fn takes(shape: &AttentionShape) -> bool {
    shape.head_dim.is_multiple_of(LANES) && shape.value_dim.is_multiple_of(LANES)
}

/// `N` query heads `[N, head_dim]` over keys `[positions, head_dim]` and values `[positions, value_dim]`; `out`
/// `[N, value_dim]` starts as zeros. Nothing is done where lengths disagree.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn online<T: Cached, const N: usize>(
    shape: &AttentionShape,
    queries: &[f32],
    keys: &[T],
    values: &[T],
    out: &mut [f32],
) {
    let (head_dim, value_dim) = (shape.head_dim, shape.value_dim);
    let positions = keys.len() / head_dim;
    let fits = positions * value_dim == values.len()
        && queries.len() == N * head_dim
        && out.len() == N * value_dim;
    if !fits || !takes(shape) {
        return;
    }
    let mut largest = [f32::NEG_INFINITY; N];
    let mut total = [0f32; N];
    let mut first = 0;
    while first < positions {
        let visible = BLOCK.min(positions - first);
        // Scores of positions that are not there are -∞ and get no weight.
        let mut scores = [[f32::NEG_INFINITY; BLOCK]; N];
        // SAFETY: `visible` keys and values from position `first` on, `N` queries and `N` outputs are there by the
        // lengths checked above; a half of `scores` has room for sixteen.
        unsafe {
            for half in 0..visible.div_ceil(LANES) {
                let start = half * LANES;
                let keys = keys.as_ptr().add((first + start) * head_dim);
                let count = LANES.min(visible - start);
                let dots = dots::<T, N>(queries.as_ptr(), keys, head_dim, count);
                for (scores, dots) in scores.iter_mut().zip(dots) {
                    let scaled = _mm512_mul_ps(dots, _mm512_set1_ps(shape.scale));
                    let there = ((1u32 << count) - 1) as u16;
                    _mm512_mask_storeu_ps(scores.as_mut_ptr().add(start), there, scaled);
                }
            }
        }
        let state = largest.iter_mut().zip(&mut total);
        let outs = out.chunks_exact_mut(value_dim);
        for ((scores, out), (largest, total)) in scores.iter_mut().zip(outs).zip(state) {
            let scores = scores
                .get_mut(..visible.next_multiple_of(LANES))
                .unwrap_or(&mut []);
            cap(shape, scores, visible);
            let shrink = to_weights(scores, largest, total);
            if shrink != 1.0 {
                out.iter_mut().for_each(|y| *y *= shrink);
            }
        }
        // SAFETY: as above.
        unsafe {
            let values = values.as_ptr().add(first * value_dim);
            let mut column = 0;
            while column + CHUNKS * LANES <= value_dim {
                let out = out.as_mut_ptr().add(column);
                weigh::<T, N, CHUNKS>(&scores, visible, values.add(column), value_dim, out);
                column += CHUNKS * LANES;
            }
            while column < value_dim {
                let out = out.as_mut_ptr().add(column);
                weigh::<T, N, 1>(&scores, visible, values.add(column), value_dim, out);
                column += LANES;
            }
        }
        first += visible;
    }
    for (out, total) in out.chunks_exact_mut(value_dim).zip(total) {
        let factor = if total > 0.0 { 1.0 / total } else { total };
        out.iter_mut().for_each(|y| *y *= factor);
    }
}

/// The dot products of `N` queries with sixteen keys, of which `count` are there; the rest is of no meaning.
///
/// # Safety
/// `N * head_dim` queries and `count * head_dim` numbers of keys must be readable; `count` is not 0 and `head_dim` a
/// multiple of sixteen.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn dots<T: Cached, const N: usize>(
    queries: *const f32,
    keys: *const T,
    head_dim: usize,
    count: usize,
) -> [__m512; N] {
    // Of each query, four registers of four keys' four sums: lane group i of register j is key 4i + j.
    let mut fours = [[_mm512_setzero_ps(); 4]; N];
    unrolled!(j < 4, at most 4, {
        let mut sums = [[_mm512_setzero_ps(); 4]; N];
        let mut chunk = 0;
        while chunk < head_dim {
            unrolled!(i < 4, at most 4, {
                // A key that isn't there is taken for the last one.
                let at = (4 * i + j).min(count - 1) * head_dim + chunk;
                // SAFETY: the caller's promise.
                let key = unsafe { T::load(keys.add(at)) };
                unrolled!(head < N, at most 4, {
                    // SAFETY: the caller's promise.
                    let query = unsafe { _mm512_loadu_ps(queries.add(head * head_dim + chunk)) };
                    sums[head][i] = _mm512_fmadd_ps(key, query, sums[head][i]);
                });
            });
            chunk += LANES;
        }
        unrolled!(head < N, at most 4, {
            let [a, b, c, d] = sums[head];
            fours[head][j] = add_halves(add_quarters(a, b), add_quarters(c, d));
        });
    });
    let mut dots = [_mm512_setzero_ps(); N];
    unrolled!(head < N, at most 4, {
        let [a, b, c, d] = fours[head];
        let (first, second) = (add_pairs(a, b), add_pairs(c, d));
        let even = _mm512_shuffle_ps::<0b10_00_10_00>(first, second);
        let odd = _mm512_shuffle_ps::<0b11_01_11_01>(first, second);
        dots[head] = _mm512_add_ps(even, odd);
    });
    dots
}

/// Sums `i` and `i + 8` of `a` and of `b`: eight of each, side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_quarters(a: __m512, b: __m512) -> __m512 {
    let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
    let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
    _mm512_add_ps(low, high)
}

/// Of two sums each in `a` and `b`, numbers `i` and `i + 4`: four of each, side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_halves(a: __m512, b: __m512) -> __m512 {
    let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
    let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
    _mm512_add_ps(low, high)
}

/// In each group of four lanes, `a[0] + a[2]`, `a[1] + a[3]`, and the same of `b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_pairs(a: __m512, b: __m512) -> __m512 {
    let low = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
    let high = _mm512_shuffle_ps::<0b11_10_11_10>(a, b);
    _mm512_add_ps(low, high)
}

/// Adds `visible` weighted values to `CHUNKS` times sixteen columns of the outputs of `N` heads.
///
/// # Safety
/// Those columns of the values and of the outputs, rows `value_dim` apart, must be there; `visible` is at most the
/// block's size.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn weigh<T: Cached, const N: usize, const CHUNKS: usize>(
    weights: &[[f32; BLOCK]; N],
    visible: usize,
    values: *const T,
    value_dim: usize,
    out: *mut f32,
) {
    let mut sums = [[_mm512_setzero_ps(); CHUNKS]; N];
    // SAFETY: the caller's promise.
    unsafe {
        unrolled!(head < N, at most 4, {
            unrolled!(chunk < CHUNKS, at most 4, {
                sums[head][chunk] = _mm512_loadu_ps(out.add(head * value_dim + chunk * LANES));
            });
        });
        let mut position = 0;
        while position < visible {
            let mut value = [_mm512_setzero_ps(); CHUNKS];
            unrolled!(chunk < CHUNKS, at most 4, {
                value[chunk] = T::load(values.add(position * value_dim + chunk * LANES));
            });
            unrolled!(head < N, at most 4, {
                let weight = _mm512_set1_ps(weights[head][position]);
                unrolled!(chunk < CHUNKS, at most 4, {
                    sums[head][chunk] = _mm512_fmadd_ps(value[chunk], weight, sums[head][chunk]);
                });
            });
            position += 1;
        }
        unrolled!(head < N, at most 4, {
            unrolled!(chunk < CHUNKS, at most 4, {
                let at = out.add(head * value_dim + chunk * LANES);
                _mm512_storeu_ps(at, sums[head][chunk]);
            });
        });
    }
}
