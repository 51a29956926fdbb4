//! Rounding activations to int8 with Helium, straight into the records its kernels read.
//!
//! Blocks have 32, 64 or 128 columns. A block is read twice: for its largest magnitude, and for its codes. `vld20` and `vld21` part
//! even columns from odd ones, a store of bytes takes the low byte of each lane.

use super::activations::{NUMBER_BYTES, Place, scale_and_inverse};
use super::quantise_arm_dsp::each_block;
use crate::math::ROUND;
use core::arch::naked_asm;

/// Writes the records of one token of its group, the last block padded with zeros. Nothing is written past the end of `records`.
pub(super) fn quantise(block: usize, x: &[f32], place: Place, records: &mut [u8]) {
    if place.token >= place.size {
        return;
    }
    let record_bytes = block + NUMBER_BYTES;
    each_block(
        x,
        block,
        records,
        record_bytes * place.size,
        |x, records| {
            // SAFETY: there are `block` values, a multiple of 32, and a record for each token of the group.
            unsafe { quantise_block(x, records.as_mut_ptr().add(place.token * record_bytes)) };
        },
    );
}

/// # Safety
/// `x` must have a multiple of 32 values, `to` room for a record of as many columns.
unsafe fn quantise_block(x: &[f32], to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (scale, inverse) = scale_and_inverse(largest(x.as_ptr(), x.len()));
        let sum = round(x.as_ptr(), x.len(), to, inverse, ROUND);
        let numbers = to.add(x.len()).cast::<f32>();
        numbers.write_unaligned(scale);
        numbers.add(1).write_unaligned(scale * sum as f32);
        numbers.add(2).cast::<i32>().write_unaligned(-8 * sum);
        numbers.add(3).cast::<i32>().write_unaligned(-128 * sum);
    }
}

/// The bits of the largest magnitude of `count` numbers, a multiple of 16.
///
/// # Safety
/// They must be readable.
#[unsafe(naked)]
unsafe extern "C" fn largest(x: *const f32, count: usize) -> u32 {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r7, lr}}",
        "lsr r1, r1, #4",
        "mov r2, #0",
        "dls lr, r1",
        "2:",
        "vldrw.u32 q0, [r0], #16",
        "vldrw.u32 q1, [r0], #16",
        "vldrw.u32 q2, [r0], #16",
        "vldrw.u32 q3, [r0], #16",
        ".irp n, 0, 1, 2, 3",
        // Without the sign.
        "vbic.i32 q\\n, #0x80000000",
        "vmaxv.u32 r2, q\\n",
        ".endr",
        "le lr, 2b",
        "mov r0, r2",
        "pop {{r7, pc}}",
    )
}

/// Writes `count` codes, a multiple of 32, even columns of a part first; returns their sum.
///
/// # Safety
/// `x` must be readable, `to` have room for the codes.
#[unsafe(naked)]
unsafe extern "C" fn round(
    x: *const f32,
    count: usize,
    to: *mut u8,
    inverse: f32,
    round: f32,
) -> i32 {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4, lr}}",
        "vmov r3, r12, s0, s1",
        "lsr r1, r1, #5",
        "mov r4, #0",
        "dls lr, r1",
        "2:",
        ".irp n, 0, 4, 8, 12",
        "vld20.32 {{q0, q1}}, [r0]",
        "vld21.32 {{q0, q1}}, [r0]!",
        "vmul.f32 q0, q0, r3",
        "vmul.f32 q1, q1, r3",
        "vadd.f32 q0, q0, r12",
        "vadd.f32 q1, q1, r12",
        "vstrb.32 q0, [r2, #\\n]",
        "vstrb.32 q1, [r2, #16 + \\n]",
        ".endr",
        "vldrb.u8 q0, [r2], #16",
        "vldrb.u8 q1, [r2], #16",
        "vaddva.s8 r4, q0",
        "vaddva.s8 r4, q1",
        "le lr, 2b",
        "mov r0, r4",
        "pop {{r4, pc}}",
    )
}
