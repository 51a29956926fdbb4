//! Rounding one block of activations to int8 with AArch64 Advanced SIMD.
//!
//! The compiler's vectors for the portable code shuffle each byte into place; `ld2` and `uzp1` do it for many at once.

use super::activations::{Numbers, scale_and_inverse};
use crate::math::ROUND;
use core::arch::aarch64::*;

/// Codes of one block, even columns first, and its numbers: the portable code's results.
#[inline(always)]
pub(super) fn quantise_block<const BLOCK: usize>(x: &[f32; BLOCK]) -> ([u8; BLOCK], Numbers) {
    let mut codes = [0u8; BLOCK];
    // SAFETY: eight values are read at multiples of eight, sixteen codes written at multiples of sixteen, and `BLOCK` is a
    // multiple of sixteen; every AArch64 target of this crate has Advanced SIMD.
    unsafe {
        let mut even = [vdupq_n_f32(0.0); 4];
        let mut odd = even;
        let mut largest = vdupq_n_u32(0);
        for i in 0..BLOCK / 8 {
            let both = vld2q_f32(x.as_ptr().add(i * 8));
            (even[i], odd[i]) = (both.0, both.1);
            largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(both.0)));
            largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(both.1)));
        }
        let (scale, inverse) = scale_and_inverse(vmaxvq_u32(largest));
        let mut sum = 0;
        if BLOCK == 32 {
            let even = narrow(even, inverse);
            let odd = narrow(odd, inverse);
            vst1q_s8(codes.as_mut_ptr().cast(), even);
            vst1q_s8(codes.as_mut_ptr().add(16).cast(), odd);
            sum += vaddvq_s16(vpadalq_s8(vpaddlq_s8(even), odd));
        } else {
            let both = narrow([even[0], even[1], odd[0], odd[1]], inverse);
            vst1q_s8(codes.as_mut_ptr().cast(), both);
            sum += vaddlvq_s8(both);
        }
        let sum = i32::from(sum);
        (codes, Numbers { scale, sum })
    }
}

/// The low bytes of sixteen values, rounded.
#[inline(always)]
fn narrow(x: [float32x4_t; 4], inverse: f32) -> int8x16_t {
    // SAFETY: every AArch64 target of this crate has Advanced SIMD.
    unsafe {
        let rounded = x.map(|x| {
            let sum = vaddq_f32(vmulq_n_f32(x, inverse), vdupq_n_f32(ROUND));
            vreinterpretq_s16_f32(sum)
        });
        let low = vreinterpretq_s8_s16(vuzp1q_s16(rounded[0], rounded[1]));
        let high = vreinterpretq_s8_s16(vuzp1q_s16(rounded[2], rounded[3]));
        vuzp1q_s8(low, high)
    }
}
