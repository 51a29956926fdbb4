//! With Helium, eight numbers side by side; what it has no vectors for (divisions), and where its vectors would take small numbers for 0
//! (the last product), is done number by number.

use super::STEP;
use crate::math::arm_exp::{
    Constants,
    helium::{exp_constants, exp_of_eight},
};
use core::arch::naked_asm;

/// Divides a gate by a number and multiplies that by an `up`.
macro_rules! gate {
    ($gate:literal, $up:literal, $divisor:literal) => {
        concat!(
            "vdiv.f32 ",
            $gate,
            ", ",
            $gate,
            ", ",
            $divisor,
            "\n",
            "vmul.f32 ",
            $gate,
            ", ",
            $gate,
            ", ",
            $up,
            "\n",
        )
    };
}

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
        "push {{r4-r11, lr}}",
        "ldr r4, [sp, #36]",
        "vpush {{d8-d15}}",
        exp_constants!(),
        "2:",
        "vldrw.u32 q0, [r0]",
        "vldrw.u32 q1, [r0, #16]",
        "vneg.f32 q0, q0",
        "vneg.f32 q1, q1",
        exp_of_eight!(),
        // s24 to s31: 1 + e^-gate; s0 to s7: gates; s8 to s15: ups.
        "vadd.f32 q6, q6, r11",
        "vadd.f32 q7, q7, r11",
        "vldrw.u32 q0, [r0], #16",
        "vldrw.u32 q1, [r0], #16",
        "vldrw.u32 q2, [r1], #16",
        "vldrw.u32 q3, [r1], #16",
        gate!("s0", "s8", "s24"),
        gate!("s1", "s9", "s25"),
        gate!("s2", "s10", "s26"),
        gate!("s3", "s11", "s27"),
        gate!("s4", "s12", "s28"),
        gate!("s5", "s13", "s29"),
        gate!("s6", "s14", "s30"),
        gate!("s7", "s15", "s31"),
        "vstrw.32 q0, [r2], #16",
        "vstrw.32 q1, [r2], #16",
        "subs r4, r4, #1",
        "bne.w 2b",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    )
}

const _: () = assert!(STEP == 8);
