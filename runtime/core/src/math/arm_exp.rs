//! [`exp`](super::exp) of many numbers on a Cortex-M with an FPU of single precision, in assembler: what the compiler makes of the
//! Rust takes 50 instructions a number where it is told to be fast and 90 where it is told to be small, as it is for a firmware.
//!
//! Products are rounded before they are added, so the bits are those of [`exp`](super::exp); x + y and y + x are the same number. The
//! steps themselves are macros, for whoever does more with the result than adding it up.

#[cfg(not(arm_helium))]
pub(crate) mod fpu;
#[cfg(arm_helium)]
pub(crate) mod helium;

use super::{EXP_HIGHEST, EXP_LOWEST, EXP_POLYNOMIAL, LANES, LN_2, ROUND};
use core::f32::consts::LOG2_E;
#[cfg(not(arm_helium))]
use fpu::run;
#[cfg(arm_helium)]
use helium::run;

pub(crate) type Constants = [f32; 14];

/// What the kernels read, in the order of the registers s16 to s29.
pub(crate) static CONSTANTS: Constants = {
    let [p5, p4, p3, p2, p1, p0] = EXP_POLYNOMIAL;
    let [high, low] = LN_2;
    [
        EXP_HIGHEST,
        EXP_LOWEST,
        LOG2_E,
        ROUND,
        high,
        low,
        p5,
        p4,
        p3,
        p2,
        p1,
        p0,
        1.0,
        0.0,
    ]
};

/// Replaces each number by `e^(x - from)` and adds those of lane `i` to `sums[i]`, in order.
pub(crate) fn exp_sum(numbers: &mut [[f32; LANES]], from: f32, sums: &mut [f32; LANES]) {
    if !numbers.is_empty() {
        // SAFETY: there are so many, at least one, and the constants are those that are wanted.
        unsafe { run(numbers.as_mut_ptr(), numbers.len(), sums, &CONSTANTS, from) };
    }
}
