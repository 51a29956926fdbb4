//! Weights and their rounding with AArch64 Advanced SIMD: the results of [`super::plain`], to the bit.
//!
//! Assembler: the compiler keeps less in registers than there is room for. A block's numbers are v0 to v7; what belongs to each
//! of them is in the register ten or twenty further on, so that `.irp` can name it.

use super::online::Running;
use super::plain::{POLYNOMIAL, STEP};
use super::rows::Q8_POSITIONS;
use crate::attention::online::BLOCK;
use crate::math::ROUND;
use core::arch::asm;

/// The most heads.
const HEADS: usize = 4;

/// The same for each head.
macro_rules! each_head {
    ($step:ident) => {
        concat!(
            $step!(),
            ".if {heads} > 1\n",
            $step!(),
            ".endif\n",
            ".if {heads} > 2\n",
            $step!(),
            ".endif\n",
            ".if {heads} > 3\n",
            $step!(),
            ".endif\n",
        )
    };
}

/// A head's largest score. Of a number and a NaN this is the number.
macro_rules! largest_score {
    () => {
        concat!(
            "ld1 {{v0.4s-v3.4s}}, [{scores}], #64\n",
            "ld1 {{v4.4s-v7.4s}}, [{scores}], #64\n",
            "fmaxnm v0.4s, v0.4s, v4.4s\n",
            "fmaxnm v1.4s, v1.4s, v5.4s\n",
            "fmaxnm v2.4s, v2.4s, v6.4s\n",
            "fmaxnm v3.4s, v3.4s, v7.4s\n",
            "fmaxnm v0.4s, v0.4s, v1.4s\n",
            "fmaxnm v2.4s, v2.4s, v3.4s\n",
            "fmaxnm v0.4s, v0.4s, v2.4s\n",
            "fmaxnmv s0, v0.4s\n",
            "str s0, [{largest}], #4\n",
        )
    };
}

/// Makes weights of a head's scores, and adds them.
macro_rules! weights_of_scores {
    () => {
        concat!(
            "ld1r {{v8.4s}}, [{state}], #4\n",
            "ld1 {{v0.4s-v3.4s}}, [{scores}], #64\n",
            "ld1 {{v4.4s-v7.4s}}, [{scores}]\n",
            "sub {scores}, {scores}, #64\n",
            // `plain::exp2_negated`: the conversion and the last subtraction saturate.
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fsub v\\n\\().4s, v8.4s, v\\n\\().4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "frintn v1\\n\\().4s, v\\n\\().4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fsub v\\n\\().4s, v1\\n\\().4s, v\\n\\().4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fmul v2\\n\\().4s, v\\n\\().4s, v28.4s\n",
            "fcvtzu v1\\n\\().4s, v1\\n\\().4s, #23\n",
            ".endr\n",
            // The `fmul` and `fadd` of the next two powers.
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fadd v2\\n\\().4s, v2\\n\\().4s, v29.4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fmul v2\\n\\().4s, v2\\n\\().4s, v\\n\\().4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fadd v2\\n\\().4s, v2\\n\\().4s, v30.4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fmul v2\\n\\().4s, v2\\n\\().4s, v\\n\\().4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fadd v2\\n\\().4s, v2\\n\\().4s, v31.4s\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "uqsub v2\\n\\().4s, v2\\n\\().4s, v1\\n\\().4s\n",
            ".endr\n",
            "st1 {{v20.4s-v23.4s}}, [{scores}], #64\n",
            "st1 {{v24.4s-v27.4s}}, [{scores}], #64\n",
            // The order of `math::sum_lanes`.
            "fadd v20.4s, v20.4s, v24.4s\n",
            "fadd v21.4s, v21.4s, v25.4s\n",
            "fadd v22.4s, v22.4s, v26.4s\n",
            "fadd v23.4s, v23.4s, v27.4s\n",
            "fadd v20.4s, v20.4s, v22.4s\n",
            "fadd v21.4s, v21.4s, v23.4s\n",
            "fadd v20.4s, v20.4s, v21.4s\n",
            "ext v21.16b, v20.16b, v20.16b, #8\n",
            "fadd v20.2s, v20.2s, v21.2s\n",
            "faddp s20, v20.2s\n",
            "ldr s21, [{state}]\n",
            "fadd s20, s21, s20\n",
            "str s20, [{state}], #4\n",
        )
    };
}

/// See [`super::online::Kernel::weights`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn weights<const N: usize>(
    scores: &mut [[f32; BLOCK]; N],
    state: &mut [Running; N],
) -> [f32; N] {
    const { assert!(N <= HEADS && BLOCK == 32) };
    let mut largest = [0f32; HEADS];
    // SAFETY: all numbers are there.
    unsafe {
        asm!(
            each_head!(largest_score),
            scores = inout(reg) scores.as_ptr() => _,
            largest = inout(reg) largest.as_mut_ptr() => _,
            heads = const N,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            options(nostack),
        );
    }
    let mut shrink = [1f32; N];
    for ((state, largest), shrink) in state.iter_mut().zip(largest).zip(&mut shrink) {
        *shrink = state.raise(largest);
    }
    // SAFETY: all numbers are there; a `Running` is its two numbers.
    unsafe {
        asm!(
            "ld4r {{v28.4s-v31.4s}}, [{polynomial}]",
            each_head!(weights_of_scores),
            scores = inout(reg) scores.as_mut_ptr() => _,
            state = inout(reg) state.as_mut_ptr() => _,
            polynomial = in(reg) POLYNOMIAL.as_ptr(),
            heads = const N,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _, out("v8") _,
            out("v10") _, out("v11") _, out("v12") _, out("v13") _,
            out("v14") _, out("v15") _, out("v16") _, out("v17") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        );
    }
    shrink
}

/// What [`round`] multiplies, adds and looks up.
#[repr(C)]
struct Rounding {
    shift: [f32; 4],
    /// The largest code, and what its scale is a multiple of.
    steps: [f32; 4],
    /// Where the lowest bytes of sixteen numbers are.
    lowest: [u8; 16],
}

static ROUNDING: Rounding = Rounding {
    shift: [ROUND; 4],
    steps: [127.0, STEP, 0.0, 0.0],
    lowest: [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60],
};

/// A head's weights times the scales, in eight registers from v`$set`0 on; `$inverse`: what makes codes of them.
macro_rules! scale_weights {
    ($set:literal, $inverse:literal) => {
        concat!(
            "ld1 {{v",
            $set,
            "0.4s-v",
            $set,
            "3.4s}}, [{weights}], #64\n",
            "ld1 {{v",
            $set,
            "4.4s-v",
            $set,
            "7.4s}}, [{weights}], #64\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fmul v",
            $set,
            "\\n\\().4s, v",
            $set,
            "\\n\\().4s, v1\\n\\().4s\n",
            ".endr\n",
            "umax v19.4s, v",
            $set,
            "0.4s, v",
            $set,
            "4.4s\n",
            "umax v",
            $inverse,
            ".4s, v",
            $set,
            "1.4s, v",
            $set,
            "5.4s\n",
            "umax v29.4s, v",
            $set,
            "2.4s, v",
            $set,
            "6.4s\n",
            "umax v30.4s, v",
            $set,
            "3.4s, v",
            $set,
            "7.4s\n",
            "umax v19.4s, v19.4s, v",
            $inverse,
            ".4s\n",
            "umax v29.4s, v29.4s, v30.4s\n",
            "umax v19.4s, v19.4s, v29.4s\n",
            "umaxv s19, v19.4s\n",
            "fdiv s",
            $inverse,
            ", s9, s19\n",
            "fmul s19, s19, v9.s[1]\n",
            "str s19, [{factors}], #4\n",
        )
    };
}

/// Their codes.
macro_rules! round_weights {
    ($set:literal, $inverse:literal) => {
        concat!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fmul v",
            $set,
            "\\n\\().4s, v",
            $set,
            "\\n\\().4s, v",
            $inverse,
            ".s[0]\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "fadd v",
            $set,
            "\\n\\().4s, v",
            $set,
            "\\n\\().4s, v8.4s\n",
            ".endr\n",
            "tbl v",
            $set,
            "0.16b, {{v",
            $set,
            "0.16b-v",
            $set,
            "3.16b}}, v18.16b\n",
            "tbl v",
            $set,
            "1.16b, {{v",
            $set,
            "4.16b-v",
            $set,
            "7.16b}}, v18.16b\n",
            "st1 {{v",
            $set,
            "0.16b, v",
            $set,
            "1.16b}}, [{codes}], #32\n",
        )
    };
}

/// See [`super::online::Kernel::round`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn round<const N: usize>(
    weights: &[[f32; BLOCK]; N],
    scales: [&[f32; Q8_POSITIONS]; 2],
    codes: &mut [[i8; BLOCK]; N],
) -> [f32; N] {
    const { assert!(N <= HEADS && BLOCK == 32) };
    let mut factors = [0f32; N];
    let [low, high] = scales;
    // SAFETY: all numbers are there.
    unsafe {
        asm!(
            "ldp q8, q9, [{rounding}]",
            "ldr q18, [{rounding}, #32]",
            "ld1 {{v10.4s-v13.4s}}, [{low}]",
            "ld1 {{v14.4s-v17.4s}}, [{high}]",
            // A head's division takes its time while another's products are made.
            scale_weights!("", "28"),
            ".if {heads} > 1",
            scale_weights!("2", "31"),
            ".endif",
            round_weights!("", "28"),
            ".if {heads} > 2",
            scale_weights!("", "28"),
            ".endif",
            ".if {heads} > 1",
            round_weights!("2", "31"),
            ".endif",
            ".if {heads} > 3",
            scale_weights!("2", "31"),
            ".endif",
            ".if {heads} > 2",
            round_weights!("", "28"),
            ".endif",
            ".if {heads} > 3",
            round_weights!("2", "31"),
            ".endif",
            weights = inout(reg) weights.as_ptr() => _,
            codes = inout(reg) codes.as_mut_ptr() => _,
            factors = inout(reg) factors.as_mut_ptr() => _,
            low = in(reg) low.as_ptr(),
            high = in(reg) high.as_ptr(),
            rounding = in(reg) &raw const ROUNDING,
            heads = const N,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        );
    }
    factors
}
