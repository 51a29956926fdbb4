//! SwiGLU with AArch64 Advanced SIMD: the results of the portable code, to the bit, in fewer instructions.
//!
//! Only what cannot change a rounding is left out or joined. Multiples of two, signs and products with the first part of
//! ln 2 are exact, so these are fused or folded into constants: `-r` and twice the polynomial are computed, and the power is
//! half of it. The exponent's bias is in the number that rounds, but for 1, as only even numbers keep ties where they are.
//! An e^-gate that the portable code takes for 0 or that loses bits here is too small to change 1.

use super::{each_row, gated};
use crate::MatrixMut;
use crate::math::{EXP_HIGHEST, EXP_LOWEST, EXP_POLYNOMIAL, LN_2, ROUND, exp};
use crate::vector::unrolled;
use core::arch::aarch64::*;

/// `gate / (1 + e^-gate) * up`, row by row; lengths were checked by the caller.
#[target_feature(enable = "neon")]
pub(super) fn silu_mul(gate: &[f32], up: &[f32], out: &mut MatrixMut<'_>) {
    each_row(gate, up, out, |gate, up, out| {
        let (gates, gates_left) = gate.as_chunks::<16>();
        let (ups, ups_left) = up.as_chunks::<16>();
        let (outs, outs_left) = out.as_chunks_mut::<16>();
        for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
            unrolled!(i < 4, at most 4, {
                // SAFETY: all three arrays hold sixteen values, and the CPU has Advanced SIMD.
                unsafe {
                    let g = vld1q_f32(gate.as_ptr().add(4 * i));
                    let u = vld1q_f32(up.as_ptr().add(4 * i));
                    let y = vmulq_f32(vdivq_f32(g, one_plus_exp_minus(g)), u);
                    vst1q_f32(out.as_mut_ptr().add(4 * i), y);
                }
            });
        }
        gated(gates_left, ups_left, outs_left, exp);
    });
}

/// `1 + e^-x`, see [`crate::math::exp`].
#[inline]
#[target_feature(enable = "neon")]
fn one_plus_exp_minus(x: float32x4_t) -> float32x4_t {
    let round = vdupq_n_f32(ROUND + 126.0);
    let two = vdupq_n_f32(2.0);
    let x = vmaxq_f32(x, vdupq_n_f32(-EXP_HIGHEST));
    let x = vminq_f32(x, vdupq_n_f32(-EXP_LOWEST));
    let shifted = vaddq_f32(vmulq_n_f32(x, -core::f32::consts::LOG2_E), round);
    let n = vsubq_f32(shifted, round);
    // The negative of the portable code's `r`, and then twice its `p`.
    let r = vfmaq_n_f32(x, n, LN_2[0]);
    let r = vaddq_f32(r, vmulq_n_f32(n, LN_2[1]));
    let [first, rest @ ..] = EXP_POLYNOMIAL;
    let mut p = vdupq_n_f32(2.0 * first);
    for next in rest {
        p = vsubq_f32(vdupq_n_f32(2.0 * next), vmulq_f32(p, r));
    }
    let p = vfmsq_f32(vmulq_f32(p, vmulq_f32(r, r)), r, two);
    let p = vaddq_f32(p, two);
    let half = vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted)));
    vaddq_f32(vmulq_f32(p, half), vdupq_n_f32(1.0))
}
