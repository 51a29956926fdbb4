//! Rounding activations to int8 with Helium, straight into the records its kernels read.
//!
//! Blocks have 32, 64 or 128 columns. A block is read twice: for its largest magnitude, and for its codes. `vld20` and `vld21` part
//! even columns from odd ones, a store of bytes takes the low byte of each lane. All blocks of a token go through one function, as
//! what is done once a block would cost more outside of it than its codes do.

use super::activations::{LEAST_MAGNITUDE, NUMBER_BYTES};
use super::quantise_arm_dsp::with_zeros;
use crate::math::ROUND;
use core::arch::naked_asm;

/// Writes the records of all tokens of `x` `[tokens, columns]`, the last block of each padded with zeros.
///
/// # Safety
/// There must be so many numbers, room for records of the shape, and blocks of 32, 64 or 128 columns.
#[inline(always)]
pub(super) unsafe fn quantise(
    block: usize,
    x: &[f32],
    [tokens, columns]: [usize; 2],
    token_bytes: usize,
    records: &mut [u8],
) {
    let record = block + NUMBER_BYTES;
    let (whole, rest) = (columns >> block.trailing_zeros(), columns & (block - 1));
    for token in 0..tokens {
        // Records of a pair lie side by side.
        let first = token / PAIR * PAIR;
        let (place, between) = match first + PAIR <= tokens {
            true => (token - first, record),
            false => (0, 0),
        };
        // SAFETY: the group has room for the records of its tokens, by the caller's promise.
        unsafe {
            let to = records.as_mut_ptr();
            let to = to.add(first * token_bytes + place * record);
            let x = x.as_ptr().add(token * columns);
            if whole > 0 {
                blocks(x, to, whole, block, between);
            }
            if rest > 0 {
                let to = to.add(whole * (record + between));
                let rest = core::slice::from_raw_parts(x.add(whole * block), rest);
                with_zeros(rest, block, |x| blocks(x.as_ptr(), to, 1, block, between));
            }
        }
    }
}

/// Tokens of the larger groups.
const PAIR: usize = 2;

/// Writes `count` records, not 0, of a block of numbers each, with `between` bytes between two of them. The scale is that of
/// [`scale_and_inverse`](super::activations::scale_and_inverse).
///
/// # Safety
/// `x` must have so many blocks of 32, 64 or 128 numbers, `to` room for the records.
#[unsafe(naked)]
unsafe extern "C" fn blocks(
    x: *const f32,
    to: *mut u8,
    count: usize,
    block: usize,
    between: usize,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r11, lr}}",
        "ldr r10, [sp, #36]",
        // r8: 1.5·2²³, which rounds; s12: 127; largest magnitudes from r11 on that aren't r12 above it have a scale.
        "adr r4, 7f",
        "ldm r4, {{r4, r8, r9, r11, r12}}",
        "vmov s12, r4",
        "lsr r3, r3, #5",
        // r9: what a block's sum of floats' bits starts at, so that it ends as the sum of its codes.
        "mul r9, r9, r3",
        "2:",
        // r5: the bits of the largest magnitude; what is not a number doesn't count.
        "mov r5, #0",
        "mov r6, r0",
        "dls lr, r3",
        "3:",
        ".irp n, 0, 1, 2, 0, 1, 2, 0, 1",
        "vldrw.u32 q\\n, [r6], #16",
        "vmaxnmav.f32 r5, q\\n",
        ".endr",
        "le lr, 3b",
        // r6: the scale; r7: what numbers are multiplied by.
        "sub r4, r5, r11",
        "cmp r4, r12",
        "bhs 5f",
        "vmov s0, r5",
        "vdiv.f32 s1, s0, s12",
        "vdiv.f32 s2, s12, s0",
        "vmov r6, r7, s1, s2",
        "4:",
        // r4: the sum.
        "mov r4, r9",
        "dls lr, r3",
        "6:",
        ".irp n, 0, 4, 8, 12",
        "vld20.32 {{q0, q1}}, [r0]",
        "vld21.32 {{q0, q1}}, [r0]!",
        "vmul.f32 q0, q0, r7",
        "vmul.f32 q1, q1, r7",
        "vadd.f32 q0, q0, r8",
        "vadd.f32 q1, q1, r8",
        "vstrb.32 q0, [r1, #\\n]",
        "vstrb.32 q1, [r1, #16 + \\n]",
        "vaddva.u32 r4, q0",
        "vaddva.u32 r4, q1",
        ".endr",
        "add r1, r1, #32",
        "le lr, 6b",
        // Each code that isn't a number makes the sum differ by 105·2²³ modulo 2³²: up to 511 of them don't make it small again.
        "ssat r5, #16, r4",
        "cmp r5, r4",
        "bne 8f",
        "9:",
        "vmov s0, s1, r4, r6",
        "vcvt.f32.s32 s0, s0",
        "vmul.f32 s0, s1, s0",
        "vmov r7, s0",
        "strd r6, r7, [r1], #8",
        "rsb r4, r4, #0",
        "lsl r6, r4, #3",
        "lsl r7, r4, #7",
        "strd r6, r7, [r1], #8",
        "add r1, r1, r10",
        "subs r2, r2, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
        "5:",
        // Smaller: all codes are 0. Infinity or not a number: no scale.
        "mov r6, #0",
        "mov r7, #0",
        "cmp r5, r11",
        "it hs",
        "movths r6, #{not_a_number} >> 16",
        "b 4b",
        "8:",
        "movw r6, #0",
        "movt r6, #{not_a_number} >> 16",
        "b 9b",
        ".balign 4",
        "7:",
        ".word {most_code}, {round}, {sum}, {least}, {range}",
        round = const ROUND.to_bits(),
        sum = const ROUND.to_bits().wrapping_mul(32).wrapping_neg(),
        not_a_number = const f32::NAN.to_bits(),
        most_code = const 127f32.to_bits(),
        least = const LEAST_MAGNITUDE.to_bits(),
        range = const f32::INFINITY.to_bits() - LEAST_MAGNITUDE.to_bits(),
    )
}
