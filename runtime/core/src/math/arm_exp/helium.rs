//! With Helium: eight numbers side by side. Its vectors take numbers below the least normal one for 0, which changes nothing:
//! what is so small in here is added to 1.

use super::Constants;
use crate::math::LANES;
use core::arch::naked_asm;

/// `e^x` of q0 and q1 in q6 and q7. r3 points to the constants, of which r7 to r11 hold those that [`exp_constants`] loads; r5, r6, r12
/// and q0 to q5 are overwritten.
macro_rules! exp_of_eight {
    () => {
        concat!(
            "ldrd r5, r12, [r3]\n",
            // `gt` is false where there is a NaN, `lt` would be true.
            "vcmp.f32 gt, q0, r5\n",
            "vpst\n",
            "vdupt.32 q0, r5\n",
            "vcmp.f32 gt, q1, r5\n",
            "vpst\n",
            "vdupt.32 q1, r5\n",
            "vdup.32 q2, r12\n",
            // r5, r6: which numbers are below the lowest.
            "vcmp.f32 gt, q2, q0\n",
            "vmrs r5, p0\n",
            "vpst\n",
            "vmovt q0, q2\n",
            "vcmp.f32 gt, q2, q1\n",
            "vmrs r6, p0\n",
            "vpst\n",
            "vmovt q1, q2\n",
            // q2, q3: n in the low bits; q4, q5: n, then what is left of x.
            "vmul.f32 q2, q0, r7\n",
            "vmul.f32 q3, q1, r7\n",
            "vadd.f32 q2, q2, r8\n",
            "vadd.f32 q3, q3, r8\n",
            "vsub.f32 q4, q2, r8\n",
            "vsub.f32 q5, q3, r8\n",
            "vmul.f32 q6, q4, r9\n",
            "vmul.f32 q7, q5, r9\n",
            "vsub.f32 q6, q0, q6\n",
            "vsub.f32 q7, q1, q7\n",
            "vmul.f32 q4, q4, r10\n",
            "vmul.f32 q5, q5, r10\n",
            "vsub.f32 q4, q6, q4\n",
            "vsub.f32 q5, q7, q5\n",
            // q6, q7: the polynomial.
            "ldr r12, [r3, #24]\n",
            "vmul.f32 q6, q4, r12\n",
            "vmul.f32 q7, q5, r12\n",
            ".irp at, 28, 32, 36, 40\n",
            "ldr r12, [r3, #\\at]\n",
            "vadd.f32 q6, q6, r12\n",
            "vadd.f32 q7, q7, r12\n",
            "vmul.f32 q6, q6, q4\n",
            "vmul.f32 q7, q7, q5\n",
            ".endr\n",
            "ldr r12, [r3, #44]\n",
            "vadd.f32 q6, q6, r12\n",
            "vadd.f32 q7, q7, r12\n",
            "vmul.f32 q0, q4, q4\n",
            "vmul.f32 q1, q5, q5\n",
            "vmul.f32 q6, q6, q0\n",
            "vmul.f32 q7, q7, q1\n",
            "vadd.f32 q6, q6, q4\n",
            "vadd.f32 q7, q7, q5\n",
            "vadd.f32 q6, q6, r11\n",
            "vadd.f32 q7, q7, r11\n",
            "vshl.i32 q2, q2, #23\n",
            "vshl.i32 q3, q3, #23\n",
            "vadd.i32 q2, q2, r11\n",
            "vadd.i32 q3, q3, r11\n",
            "vmul.f32 q6, q6, q2\n",
            "vmul.f32 q7, q7, q3\n",
            "mov r12, #0\n",
            "vmsr p0, r5\n",
            "vpst\n",
            "vdupt.32 q6, r12\n",
            "vmsr p0, r6\n",
            "vpst\n",
            "vdupt.32 q7, r12\n",
        )
    };
}

/// log2(e), the rounding constant, ln 2 in two parts, 1.
macro_rules! exp_constants {
    () => {
        concat!(
            "ldrd r7, r8, [r3, #8]\n",
            "ldrd r9, r10, [r3, #16]\n",
            "ldr r11, [r3, #48]\n",
        )
    };
}

pub(crate) use {exp_constants, exp_of_eight};

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
        "push {{r4-r11, lr}}",
        "vmov r4, s0",
        "sub sp, sp, #4",
        "vpush {{d8-d15}}",
        exp_constants!(),
        "2:",
        // The end of sixteen numbers.
        "add lr, r0, #64",
        "3:",
        "vldrw.u32 q0, [r0]",
        "vldrw.u32 q1, [r0, #16]",
        "vsub.f32 q0, q0, r4",
        "vsub.f32 q1, q1, r4",
        exp_of_eight!(),
        "vldrw.u32 q0, [r2]",
        "vldrw.u32 q1, [r2, #16]",
        "vadd.f32 q0, q0, q6",
        "vadd.f32 q1, q1, q7",
        "vstrw.32 q0, [r2], #16",
        "vstrw.32 q1, [r2], #16",
        "vstrw.32 q6, [r0], #16",
        "vstrw.32 q7, [r0], #16",
        "cmp r0, lr",
        "bne.w 3b",
        "sub r2, r2, #64",
        "subs r1, r1, #1",
        "bne.w 2b",
        "vpop {{d8-d15}}",
        "add sp, sp, #4",
        "pop {{r4-r11, pc}}",
    )
}
