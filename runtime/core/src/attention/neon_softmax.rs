//! Turning scores into weights with AArch64 Advanced SIMD: the results of `online::to_weights`, to the bit.
//!
//! The compiler's vectors for the portable code compare and choose where one instruction takes the larger, and lack
//! registers. Differences to the largest score are never above 0, so that `exp` needs no upper bound here.

use super::online::raise;
use crate::math::{EXP_LOWEST, EXP_POLYNOMIAL, LANES, LN_2, ROUND};
use crate::vector::unrolled;
use core::arch::aarch64::*;

/// See [`super::online::to_weights`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn to_weights(scores: &mut [f32], largest: &mut f32, total: &mut f32) -> f32 {
    let chunks = scores.as_chunks_mut::<LANES>().0;
    let mut lanes = [vdupq_n_f32(f32::NEG_INFINITY); 4];
    for scores in &*chunks {
        unrolled!(i < 4, at most 4, {
            // SAFETY: there are sixteen scores.
            let scores = unsafe { vld1q_f32(scores.as_ptr().add(4 * i)) };
            // Of a number and a NaN this is the number.
            lanes[i] = vmaxnmq_f32(lanes[i], scores);
        });
    }
    let [a, b, c, d] = lanes;
    let block_largest = vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(a, b), vmaxnmq_f32(c, d)));
    let shrink = raise(largest, total, block_largest);
    let most = vdupq_n_f32(*largest);
    let mut lanes = [vdupq_n_f32(0.0); 4];
    for scores in chunks {
        unrolled!(i < 4, at most 4, {
            // SAFETY: there are sixteen scores.
            unsafe {
                let at = scores.as_mut_ptr().add(4 * i);
                let weights = exp(vsubq_f32(vld1q_f32(at), most));
                vst1q_f32(at, weights);
                lanes[i] = vaddq_f32(lanes[i], weights);
            }
        });
    }
    let [a, b, c, d] = lanes;
    let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
    *total += vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
    shrink
}

/// [`crate::math::exp`] of numbers not above 0.
#[inline]
#[target_feature(enable = "neon")]
fn exp(x: float32x4_t) -> float32x4_t {
    let (lowest, round) = (vdupq_n_f32(EXP_LOWEST), vdupq_n_f32(ROUND));
    let one = vdupq_n_f32(1.0);
    let clamped = vmaxq_f32(x, lowest);
    let shifted = vaddq_f32(vmulq_n_f32(clamped, core::f32::consts::LOG2_E), round);
    let n = vsubq_f32(shifted, round);
    // The product is exact, so that rounding once is the same as rounding twice.
    let r = vfmsq_n_f32(clamped, n, LN_2[0]);
    let r = vsubq_f32(r, vmulq_n_f32(n, LN_2[1]));
    let [first, rest @ ..] = EXP_POLYNOMIAL;
    let mut p = vdupq_n_f32(first);
    for next in rest {
        p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(next));
    }
    let p = vaddq_f32(vaddq_f32(vmulq_f32(p, vmulq_f32(r, r)), r), one);
    let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
    let power = vaddq_u32(exponent, vreinterpretq_u32_f32(one));
    let result = vmulq_f32(p, vreinterpretq_f32_u32(power));
    let too_low = vcgtq_f32(lowest, x);
    vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(result), too_low))
}
