//! With the FPU alone: two numbers go through side by side, so that on silicon the one's results are ready while the other's are
//! computed. `vmla` and `vmls` round products before they add.

use super::Constants;
use crate::math::LANES;
use core::arch::naked_asm;

/// `e^x` of s1 and s2 in s3 and s4. The constants are in s16 to s29, and the bits of 1 in r6; r4, r5 and s5 to s8 are overwritten.
macro_rules! exp_of_two {
    () => {
        concat!(
            ".irp x, s1, s2\n",
            "vcmp.f32 \\x, s16\n",
            "vmrs APSR_nzcv, fpscr\n",
            "it gt\n",
            "vmovgt.f32 \\x, s16\n",
            ".endr\n",
            // s3, s4: n in the low bits; s5, s6: n; s7, s8: what is left of x.
            "vmul.f32 s3, s1, s18\n",
            "vmul.f32 s4, s2, s18\n",
            "vadd.f32 s3, s3, s19\n",
            "vadd.f32 s4, s4, s19\n",
            "vsub.f32 s5, s3, s19\n",
            "vsub.f32 s6, s4, s19\n",
            "vmov r4, r5, s3, s4\n",
            "vmov.f32 s7, s1\n",
            "vmov.f32 s8, s2\n",
            "vmls.f32 s7, s5, s20\n",
            "vmls.f32 s8, s6, s20\n",
            "vmls.f32 s7, s5, s21\n",
            "vmls.f32 s8, s6, s21\n",
            // s3, s4: the polynomial.
            "vmul.f32 s3, s22, s7\n",
            "vmul.f32 s4, s22, s8\n",
            ".irp c, s23, s24, s25, s26\n",
            "vadd.f32 s3, s3, \\c\n",
            "vadd.f32 s4, s4, \\c\n",
            "vmul.f32 s3, s3, s7\n",
            "vmul.f32 s4, s4, s8\n",
            ".endr\n",
            "vadd.f32 s3, s3, s27\n",
            "vadd.f32 s4, s4, s27\n",
            "vmul.f32 s5, s7, s7\n",
            "vmul.f32 s6, s8, s8\n",
            "add r4, r6, r4, lsl #23\n",
            "add r5, r6, r5, lsl #23\n",
            "vmla.f32 s7, s3, s5\n",
            "vmla.f32 s8, s4, s6\n",
            "vmov s5, s6, r4, r5\n",
            "vadd.f32 s7, s7, s28\n",
            "vadd.f32 s8, s8, s28\n",
            "vmul.f32 s3, s7, s5\n",
            "vmul.f32 s4, s8, s6\n",
            // Below the lowest x it is 0. A NaN is not below.
            "vcmp.f32 s1, s17\n",
            "vmrs APSR_nzcv, fpscr\n",
            "it mi\n",
            "vmovmi.f32 s3, s29\n",
            "vcmp.f32 s2, s17\n",
            "vmrs APSR_nzcv, fpscr\n",
            "it mi\n",
            "vmovmi.f32 s4, s29\n",
        )
    };
}

pub(crate) use exp_of_two;

/// # Safety
/// `numbers` must be `count` times sixteen numbers, `count` not 0.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn run(
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
        "vsub.f32 s1, s1, s0",
        "vsub.f32 s2, s2, s0",
        exp_of_two!(),
        "vldmia r2, {{s9, s10}}",
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
