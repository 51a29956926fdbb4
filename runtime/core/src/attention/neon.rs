//! Attention's products with AArch64 Advanced SIMD: four keys' scores are added across lanes together.
//!
//! Keys and values are widened once for all heads, queries stay in the first-level cache, and what was sixteen sums
//! a score is added in the very order of `sum_lanes`, so the bits are the same. For heads whose sizes are multiples of
//! sixteen, as all common ones are; others take the portable code.

use super::AttentionShape;
use super::neon_softmax::to_weights;
use super::online::{BLOCK, Steps, online};
use crate::f16;
use crate::math::LANES;
use crate::vector::unrolled;
use core::arch::aarch64::*;
use core::arch::asm;

/// What a cache holds, and how sixteen of them become floats.
pub(super) trait Cached: Copy {
    /// Widens sixteen numbers.
    ///
    /// # Safety
    /// Sixteen numbers must be readable at `at`.
    unsafe fn load(at: *const Self) -> [float32x4_t; 4];
}

impl Cached for f32 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(at: *const f32) -> [float32x4_t; 4] {
        // SAFETY: the caller's promise.
        let all = unsafe { vld1q_f32_x4(at) };
        [all.0, all.1, all.2, all.3]
    }
}

impl Cached for f16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(at: *const f16) -> [float32x4_t; 4] {
        // SAFETY: the caller's promise; the instructions touch registers only and are in every AArch64 target.
        unsafe {
            let both = vld1q_u16_x2(at.cast());
            let (a, b, c, d);
            asm!("fcvtl {o:v}.4s, {i:v}.4h", o = out(vreg) a, i = in(vreg) both.0, options(pure, nomem, nostack, preserves_flags));
            asm!("fcvtl2 {o:v}.4s, {i:v}.8h", o = out(vreg) b, i = in(vreg) both.0, options(pure, nomem, nostack, preserves_flags));
            asm!("fcvtl {o:v}.4s, {i:v}.4h", o = out(vreg) c, i = in(vreg) both.1, options(pure, nomem, nostack, preserves_flags));
            asm!("fcvtl2 {o:v}.4s, {i:v}.8h", o = out(vreg) d, i = in(vreg) both.1, options(pure, nomem, nostack, preserves_flags));
            [a, b, c, d]
        }
    }
}

/// Whether heads of this shape are computed here.
pub(super) fn takes(shape: &AttentionShape) -> bool {
    shape.head_dim.is_multiple_of(LANES) && shape.value_dim.is_multiple_of(LANES)
}

/// `N` query heads `[N, head_dim]` over keys `[positions, head_dim]` and values `[positions, value_dim]`; `out`
/// `[N, value_dim]` starts as zeros. Nothing is done where lengths disagree.
#[target_feature(enable = "neon")]
pub(super) fn heads<T: Cached, const N: usize>(
    shape: &AttentionShape,
    queries: &[f32],
    keys: &[T],
    values: &[T],
    out: &mut [f32],
) {
    let (head_dim, value_dim) = (shape.head_dim, shape.value_dim);
    let fits = keys.len() / head_dim * value_dim == values.len()
        && queries.len() == N * head_dim
        && out.len() == N * value_dim;
    if !fits || !takes(shape) {
        return;
    }
    let steps = Neon::<N> {
        shape,
        queries: queries.as_ptr(),
    };
    online(shape, keys, values, out, steps);
}

/// The steps of `N` queries of a shape that [`takes`] has agreed to, with keys, values and outputs as long as it says.
struct Neon<'a, const N: usize> {
    shape: &'a AttentionShape,
    queries: *const f32,
}

impl<T: Cached, const N: usize> Steps<T, N> for Neon<'_, N> {
    #[inline(always)]
    fn dots(&self, keys: &[T], scores: &mut [[f32; BLOCK]; N]) {
        let (head_dim, scale) = (self.shape.head_dim, self.shape.scale);
        let visible = (keys.len() / head_dim).min(BLOCK);
        // SAFETY: `visible` keys and `N` queries are there.
        unsafe {
            // The common size of heads gets loops of constant length.
            let (queries, keys) = (self.queries, keys.as_ptr());
            if head_dim == 64 {
                dots::<T, N, 64>(queries, keys, 64, visible, scale, scores);
            } else {
                dots::<T, N, 0>(queries, keys, head_dim, visible, scale, scores);
            }
        }
    }

    #[inline(always)]
    fn to_weights(&self, scores: &mut [f32], largest: &mut f32, total: &mut f32) -> f32 {
        // SAFETY: only code that has Advanced SIMD makes this type.
        unsafe { to_weights(scores, largest, total) }
    }

    #[inline(always)]
    fn weigh(&self, weights: &[[f32; BLOCK]; N], values: &[T], out: &mut [f32]) {
        let value_dim = self.shape.value_dim;
        for column in (0..value_dim).step_by(LANES) {
            // SAFETY: sixteen columns from `column` on are there in each of the values and of the outputs.
            unsafe {
                let positions = values.len() / value_dim;
                let values = values.as_ptr().add(column);
                let out = out.as_mut_ptr().add(column);
                weigh::<T, N>(weights, positions, values, value_dim, out);
            }
        }
    }
}

/// The scores of `visible` keys with `N` queries. `SIZE` is `head_dim`, or 0 for any.
///
/// # Safety
/// `N * head_dim` queries and `visible * head_dim` numbers of keys must be readable; `visible` is at most the block's
/// size, and `head_dim` a multiple of sixteen.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dots<T: Cached, const N: usize, const SIZE: usize>(
    queries: *const f32,
    keys: *const T,
    head_dim: usize,
    visible: usize,
    scale: f32,
    scores: &mut [[f32; BLOCK]; N],
) {
    let mut first = 0;
    let mut fours = [[vdupq_n_f32(0.0); N]; 4];
    while first < visible {
        // Where keys are missing, older sums stay, and their scores are forgotten.
        for (i, fours) in fours.iter_mut().enumerate().take(visible - first) {
            // SAFETY: the caller's promise.
            *fours = unsafe {
                let key = keys.add((first + i) * head_dim);
                four_sums::<T, N, SIZE>(queries, key, head_dim)
            };
        }
        unrolled!(head < N, at most 4, {
            let [a, b, c, d] = [fours[0][head], fours[1][head], fours[2][head], fours[3][head]];
            let sums = vpaddq_f32(add_halves(a, b), add_halves(c, d));
            let at = scores[head].as_mut_ptr();
            // SAFETY: a block's size is a multiple of four.
            unsafe { vst1q_f32(at.add(first), vmulq_n_f32(sums, scale)) };
        });
        first += 4;
    }
    for scores in scores {
        scores
            .iter_mut()
            .skip(visible)
            .take(first - visible)
            .for_each(|s| *s = f32::NEG_INFINITY);
    }
}

/// Sixteen columns of [`four_sums`]: products of a key with `N` queries.
macro_rules! sixteen_columns {
    ($op:literal) => {
        concat!(
            // v20 to v23: of the key; v24 to v27: of a query; v0 to v15: sums, four registers a head.
            ".if {half}\n",
            "ld1 {{v22.8h, v23.8h}}, [{key}], #32\n",
            "fcvtl v20.4s, v22.4h\n",
            "fcvtl2 v21.4s, v22.8h\n",
            "fcvtl v22.4s, v23.4h\n",
            "fcvtl2 v23.4s, v23.8h\n",
            ".else\n",
            "ld1 {{v20.4s-v23.4s}}, [{key}], #64\n",
            ".endif\n",
            "ld1 {{v24.4s-v27.4s}}, [{query}], {stride}\n",
            $op,
            " v0.4s, v20.4s, v24.4s\n",
            $op,
            " v1.4s, v21.4s, v25.4s\n",
            $op,
            " v2.4s, v22.4s, v26.4s\n",
            $op,
            " v3.4s, v23.4s, v27.4s\n",
            ".if {heads} > 1\n",
            "ld1 {{v24.4s-v27.4s}}, [{query}], {stride}\n",
            $op,
            " v4.4s, v20.4s, v24.4s\n",
            $op,
            " v5.4s, v21.4s, v25.4s\n",
            $op,
            " v6.4s, v22.4s, v26.4s\n",
            $op,
            " v7.4s, v23.4s, v27.4s\n",
            ".endif\n",
            ".if {heads} > 2\n",
            "ld1 {{v24.4s-v27.4s}}, [{query}], {stride}\n",
            $op,
            " v8.4s, v20.4s, v24.4s\n",
            $op,
            " v9.4s, v21.4s, v25.4s\n",
            $op,
            " v10.4s, v22.4s, v26.4s\n",
            $op,
            " v11.4s, v23.4s, v27.4s\n",
            ".endif\n",
            ".if {heads} > 3\n",
            "ld1 {{v24.4s-v27.4s}}, [{query}], {stride}\n",
            $op,
            " v12.4s, v20.4s, v24.4s\n",
            $op,
            " v13.4s, v21.4s, v25.4s\n",
            $op,
            " v14.4s, v22.4s, v26.4s\n",
            $op,
            " v15.4s, v23.4s, v27.4s\n",
            ".endif\n",
        )
    };
}

/// The dot products of one key with `N` queries, as sixteen sums that were added down to four. `SIZE` is `head_dim`, or 0
/// for any.
///
/// Assembler because the compiler keeps what it can of all queries on the stack, and moves registers about. The sums start
/// as products: no zero to add to, which no score can tell.
///
/// # Safety
/// `N * head_dim` queries and `head_dim` numbers of the key must be readable; `head_dim` is a multiple of sixteen, not 0.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_sums<T: Cached, const N: usize, const SIZE: usize>(
    queries: *const f32,
    key: *const T,
    head_dim: usize,
) -> [float32x4_t; N] {
    let (first, second, third, fourth);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            sixteen_columns!("fmul"),
            ".if {size}",
            ".rept {size} / 16 - 1",
            "add {query}, {query}, {back}",
            sixteen_columns!("fmla"),
            ".endr",
            ".else",
            "subs {columns}, {columns}, #16",
            "b.eq 3f",
            "2:",
            "add {query}, {query}, {back}",
            sixteen_columns!("fmla"),
            "subs {columns}, {columns}, #16",
            "b.ne 2b",
            "3:",
            ".endif",
            "fadd v0.4s, v0.4s, v2.4s",
            "fadd v1.4s, v1.4s, v3.4s",
            "fadd v0.4s, v0.4s, v1.4s",
            ".if {heads} > 1",
            "fadd v4.4s, v4.4s, v6.4s",
            "fadd v5.4s, v5.4s, v7.4s",
            "fadd v4.4s, v4.4s, v5.4s",
            ".endif",
            ".if {heads} > 2",
            "fadd v8.4s, v8.4s, v10.4s",
            "fadd v9.4s, v9.4s, v11.4s",
            "fadd v8.4s, v8.4s, v9.4s",
            ".endif",
            ".if {heads} > 3",
            "fadd v12.4s, v12.4s, v14.4s",
            "fadd v13.4s, v13.4s, v15.4s",
            "fadd v12.4s, v12.4s, v13.4s",
            ".endif",
            key = inout(reg) key => _,
            query = inout(reg) queries => _,
            columns = inout(reg) head_dim => _,
            // From one query to the next, and from past the last back to the first's next columns.
            stride = in(reg) head_dim * 4,
            back = in(reg) 64 - (N * head_dim * 4) as isize,
            heads = const N,
            size = const SIZE,
            half = const (size_of::<T>() == 2) as u8,
            out("v0") first, out("v1") _, out("v2") _, out("v3") _,
            out("v4") second, out("v5") _, out("v6") _, out("v7") _,
            out("v8") third, out("v9") _, out("v10") _, out("v11") _,
            out("v12") fourth, out("v13") _, out("v14") _, out("v15") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            options(nostack, readonly),
        );
    }
    let all: [float32x4_t; 4] = [first, second, third, fourth];
    let mut fours = [vdupq_n_f32(0.0); N];
    unrolled!(head < N, at most 4, {
        fours[head] = all[head];
    });
    fours
}

/// `a[0] + a[2]`, `a[1] + a[3]`, and the same of `b`.
#[inline]
#[target_feature(enable = "neon")]
fn add_halves(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
    let (low, high) = (vzip1q_f64(a, b), vzip2q_f64(a, b));
    vaddq_f32(vreinterpretq_f32_f64(low), vreinterpretq_f32_f64(high))
}

/// Adds `positions` weighted values to sixteen columns of the outputs of `N` heads.
///
/// # Safety
/// Those columns of the values and of the outputs, rows `value_dim` apart, must be there; `positions` is at most the
/// block's size.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn weigh<T: Cached, const N: usize>(
    weights: &[[f32; BLOCK]; N],
    positions: usize,
    values: *const T,
    value_dim: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 4]; N];
        unrolled!(head < N, at most 4, {
            sums[head] = f32::load(out.add(head * value_dim));
        });
        let mut value = values;
        let mut position = 0;
        while position + 4 <= positions {
            let mut weight = [vdupq_n_f32(0.0); N];
            unrolled!(head < N, at most 4, {
                weight[head] = vld1q_f32(weights[head].as_ptr().add(position));
            });
            add::<T, N, 0>(&mut sums, value, &weight);
            add::<T, N, 1>(&mut sums, value.add(value_dim), &weight);
            add::<T, N, 2>(&mut sums, value.add(2 * value_dim), &weight);
            add::<T, N, 3>(&mut sums, value.add(3 * value_dim), &weight);
            value = value.add(4 * value_dim);
            position += 4;
        }
        while position < positions {
            let mut weight = [vdupq_n_f32(0.0); N];
            unrolled!(head < N, at most 4, {
                weight[head] = vdupq_n_f32(weights[head][position % BLOCK]);
            });
            add::<T, N, 0>(&mut sums, value, &weight);
            value = value.add(value_dim);
            position += 1;
        }
        unrolled!(head < N, at most 4, {
            let [a, b, c, d] = sums[head];
            vst1q_f32_x4(out.add(head * value_dim), float32x4x4_t(a, b, c, d));
        });
    }
}

/// Adds sixteen columns of one value, weighted by lane `LANE` of each head's weights.
///
/// # Safety
/// Sixteen numbers must be readable at `value`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add<T: Cached, const N: usize, const LANE: i32>(
    sums: &mut [[float32x4_t; 4]; N],
    value: *const T,
    weight: &[float32x4_t; N],
) {
    // SAFETY: the caller's promise.
    let value = unsafe { T::load(value) };
    unrolled!(head < N, at most 4, {
        unrolled!(i < 4, at most 4, {
            sums[head][i] = vfmaq_laneq_f32::<LANE>(sums[head][i], value[i], weight[head]);
        });
    });
}
