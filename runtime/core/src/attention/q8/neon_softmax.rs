//! Weights and their rounding with AArch64 Advanced SIMD: the results of [`super::plain`], to the bit.

use super::online::Running;
use super::plain::{LOWEST, POLYNOMIAL, STEP};
use super::rows::Q8_POSITIONS;
use crate::attention::online::BLOCK;
use crate::math::ROUND;
use crate::vector::unrolled;
use core::arch::aarch64::*;

/// See [`super::online::Kernel::weights`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn weights<const N: usize>(
    scores: &mut [[f32; BLOCK]; N],
    state: &mut [Running; N],
) -> [f32; N] {
    let mut shrink = [1f32; N];
    for ((scores, state), shrink) in scores.iter_mut().zip(state).zip(&mut shrink) {
        let mut all = load(scores);
        // Of a number and a NaN this is the number.
        let mut lanes = [vmaxnmq_f32(all[0], all[4]); 4];
        unrolled!(i < 4, at most 4, {
            lanes[i] = vmaxnmq_f32(all[i], all[i + 4]);
        });
        let [a, b, c, d] = lanes;
        *shrink = state.raise(vmaxnmvq_f32(vmaxnmq_f32(
            vmaxnmq_f32(a, b),
            vmaxnmq_f32(c, d),
        )));
        let most = vdupq_n_f32(state.largest);
        // SAFETY: eight times four scores.
        unsafe {
            let at = scores.as_mut_ptr();
            unrolled!(i < 8, {
                all[i] = exp2(vsubq_f32(all[i], most));
                vst1q_f32(at.add(4 * i), all[i]);
            });
        }
        unrolled!(i < 4, at most 4, {
            lanes[i] = vaddq_f32(all[i], all[i + 4]);
        });
        let [a, b, c, d] = lanes;
        let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
        state.total += vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
    }
    shrink
}

/// [`super::plain::exp2`].
#[inline]
#[target_feature(enable = "neon")]
fn exp2(x: float32x4_t) -> float32x4_t {
    // This maximum of a number and a NaN is a NaN.
    let x = vmaxq_f32(x, vdupq_n_f32(LOWEST));
    let round = vdupq_n_f32(ROUND);
    let shifted = vaddq_f32(x, round);
    let r = vsubq_f32(x, vsubq_f32(shifted, round));
    let mut p = vdupq_n_f32(POLYNOMIAL[0]);
    unrolled!(i < 3, at most 4, {
        p = vaddq_f32(vmulq_f32(p, r), vdupq_n_f32(POLYNOMIAL[i + 1]));
    });
    let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
    vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(p), exponent))
}

/// See [`super::online::Kernel::round`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn round(
    weights: &[f32; BLOCK],
    scales: [&[f32; Q8_POSITIONS]; 2],
    codes: &mut [i8; BLOCK],
) -> f32 {
    let mut products = load(weights);
    let mut largest = vdupq_n_u32(0);
    unrolled!(i < 8, {
        // SAFETY: sixteen scales each.
        let scales = unsafe { vld1q_f32(scales[i / 4].as_ptr().add(i % 4 * 4)) };
        products[i] = vmulq_f32(products[i], scales);
        largest = vmaxq_u32(largest, vreinterpretq_u32_f32(products[i]));
    });
    let largest = f32::from_bits(vmaxvq_u32(largest));
    let inverse = 127.0 / largest;
    let shift = vdupq_n_f32(ROUND);
    let mut rounded = [vdupq_n_s16(0); 8];
    unrolled!(i < 8, {
        let sum = vaddq_f32(vmulq_n_f32(products[i], inverse), shift);
        rounded[i] = vreinterpretq_s16_f32(sum);
    });
    let mut bytes = [vdupq_n_s8(0); 4];
    unrolled!(i < 4, at most 4, {
        bytes[i] = vreinterpretq_s8_s16(vuzp1q_s16(rounded[2 * i], rounded[2 * i + 1]));
    });
    // SAFETY: 32 codes.
    unsafe {
        vst1q_s8(codes.as_mut_ptr(), vuzp1q_s8(bytes[0], bytes[1]));
        vst1q_s8(codes.as_mut_ptr().add(16), vuzp1q_s8(bytes[2], bytes[3]));
    }
    largest * STEP
}

/// A block's numbers in registers.
#[inline]
#[target_feature(enable = "neon")]
fn load(numbers: &[f32; BLOCK]) -> [float32x4_t; 8] {
    let mut all = [vdupq_n_f32(0.0); 8];
    unrolled!(i < 8, {
        // SAFETY: eight times four numbers.
        all[i] = unsafe { vld1q_f32(numbers.as_ptr().add(4 * i)) };
    });
    all
}
