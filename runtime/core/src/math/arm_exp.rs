//! [`exp`](super::exp) of many numbers on a Cortex-M with an FPU of single precision, in assembler: what the compiler makes of the
//! Rust takes 50 instructions a number where it is told to be fast and 90 where it is told to be small, as it is for a firmware.
//!
//! With Helium there is a kernel of its own. Here two numbers go through side by side, so that on silicon the one's results are ready while the other's are computed. `vmla` and
//! `vmls` round products before they add, so the bits are those of [`exp`](super::exp); x + y and y + x are the same number.

#[cfg(arm_helium)]
mod helium;

use super::{EXP_HIGHEST, EXP_LOWEST, EXP_POLYNOMIAL, LANES, LN_2, ROUND};
#[cfg(not(arm_helium))]
use core::arch::naked_asm;
use core::f32::consts::LOG2_E;
#[cfg(arm_helium)]
use helium::run;

type Constants = [f32; 14];

/// What the kernels read, in the order of the registers s16 to s29.
static CONSTANTS: Constants = {
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

/// # Safety
/// `numbers` must be `count` times sixteen numbers, `count` not 0.
#[cfg(not(arm_helium))]
#[unsafe(naked)]
unsafe extern "C" fn run(
    numbers: *mut [f32; LANES],
    count: usize,
    sums: &mut [f32; LANES],
    constants: &Constants,
    from: f32,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4, r5, r6, lr}}",
        "vpush {{s16-s29}}",
        "vldmia r3, {{s16-s29}}",
        "vmov r6, s28",
        "2:",
        // The end of sixteen numbers.
        "add r12, r0, #64",
        "3:",
        "vldmia r0, {{s1, s2}}",
        ".irp x, s1, s2",
        "vsub.f32 \\x, \\x, s0",
        "vcmp.f32 \\x, s16",
        "vmrs APSR_nzcv, fpscr",
        "it gt",
        "vmovgt.f32 \\x, s16",
        ".endr",
        // s3, s4: n in the low bits; s5, s6: n; s7, s8: what is left of x.
        "vmul.f32 s3, s1, s18",
        "vmul.f32 s4, s2, s18",
        "vadd.f32 s3, s3, s19",
        "vadd.f32 s4, s4, s19",
        "vsub.f32 s5, s3, s19",
        "vsub.f32 s6, s4, s19",
        "vmov r4, r5, s3, s4",
        "vmov.f32 s7, s1",
        "vmov.f32 s8, s2",
        "vmls.f32 s7, s5, s20",
        "vmls.f32 s8, s6, s20",
        "vmls.f32 s7, s5, s21",
        "vmls.f32 s8, s6, s21",
        // s3, s4: the polynomial.
        "vmul.f32 s3, s22, s7",
        "vmul.f32 s4, s22, s8",
        ".irp c, s23, s24, s25, s26",
        "vadd.f32 s3, s3, \\c",
        "vadd.f32 s4, s4, \\c",
        "vmul.f32 s3, s3, s7",
        "vmul.f32 s4, s4, s8",
        ".endr",
        "vadd.f32 s3, s3, s27",
        "vadd.f32 s4, s4, s27",
        "vmul.f32 s5, s7, s7",
        "vmul.f32 s6, s8, s8",
        "add r4, r6, r4, lsl #23",
        "add r5, r6, r5, lsl #23",
        "vmla.f32 s7, s3, s5",
        "vmla.f32 s8, s4, s6",
        "vmov s5, s6, r4, r5",
        "vldmia r2, {{s9, s10}}",
        "vadd.f32 s7, s7, s28",
        "vadd.f32 s8, s8, s28",
        "vmul.f32 s3, s7, s5",
        "vmul.f32 s4, s8, s6",
        // Below the lowest x it is 0. A NaN is not below.
        "vcmp.f32 s1, s17",
        "vmrs APSR_nzcv, fpscr",
        "it mi",
        "vmovmi.f32 s3, s29",
        "vcmp.f32 s2, s17",
        "vmrs APSR_nzcv, fpscr",
        "it mi",
        "vmovmi.f32 s4, s29",
        "vadd.f32 s9, s9, s3",
        "vadd.f32 s10, s10, s4",
        "vstmia r0!, {{s3, s4}}",
        "vstmia r2!, {{s9, s10}}",
        "cmp r0, r12",
        "bne.w 3b",
        "sub r2, r2, #64",
        "subs r1, r1, #1",
        "bne.w 2b",
        "vpop {{s16-s29}}",
        "pop {{r4, r5, r6, pc}}",
    )
}
