//! With the FPU alone, two numbers side by side.

use super::STEP;
use crate::math::arm_exp::{Constants, fpu::exp_of_two};
use core::arch::naked_asm;

/// # Safety
/// `gate`, `up` and `out` must be `count` times as many numbers as a step has, `count` not 0.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn run(
    gate: *const [f32; STEP],
    up: *const [f32; STEP],
    out: *mut [f32; STEP],
    constants: &Constants,
    count: usize,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4, r5, r6, lr}}",
        "vpush {{s16-s29}}",
        "vldmia r3, {{s16-s29}}",
        "vmov r6, s28",
        "ldr r3, [sp, #72]",
        // The end of the results.
        "add r3, r2, r3, lsl #5",
        "2:",
        "vldmia r0!, {{s11, s12}}",
        "vneg.f32 s1, s11",
        "vneg.f32 s2, s12",
        exp_of_two!(),
        "vldmia r1!, {{s5, s6}}",
        "vadd.f32 s3, s3, s28",
        "vadd.f32 s4, s4, s28",
        "vdiv.f32 s3, s11, s3",
        "vdiv.f32 s4, s12, s4",
        "vmul.f32 s3, s3, s5",
        "vmul.f32 s4, s4, s6",
        "vstmia r2!, {{s3, s4}}",
        "cmp r2, r3",
        "bne.w 2b",
        "vpop {{s16-s29}}",
        "pop {{r4, r5, r6, pc}}",
    )
}

const _: () = assert!(STEP == 8);
