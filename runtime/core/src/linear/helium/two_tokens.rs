//! Two tokens at a time with Helium: a vector of weights is read once for both, and eight sums are those of four rows.

use super::super::activations::NUMBER_BYTES;
use super::super::arm_rows::Turn;
use super::super::layout::PARAM_BYTES;
use core::arch::naked_asm;

/// One row's sixteen columns of 8 bits by two tokens', in q0 and q1.
macro_rules! row_8_of_two {
    ($first:literal, $second:literal, $next:literal) => {
        concat!(
            "vldrw.u32 q2, [r3], #",
            $next,
            "\n",
            "vmladava.s8 ",
            $first,
            ", q2, q0\n",
            "vmladava.s8 ",
            $second,
            ", q2, q1\n",
        )
    };
}

/// One row's 32 columns of 4 bits by two tokens': even columns in q0 and q1, odd ones in q2 and q3.
macro_rules! row_4_of_two {
    ($first:literal, $second:literal, $next:literal) => {
        concat!(
            "vldrw.u32 q4, [r3], #",
            $next,
            "\n",
            "vand q5, q4, q6\n",
            "vmladava.s8 ",
            $first,
            ", q5, q0\n",
            "vmladava.s8 ",
            $second,
            ", q5, q1\n",
            "vshr.u8 q4, q4, #4\n",
            "vmladava.s8 ",
            $first,
            ", q4, q2\n",
            "vmladava.s8 ",
            $second,
            ", q4, q3\n",
        )
    };
}

/// Four rows, one after the other; the last brings the pointer over the four others to what follows.
macro_rules! four_rows_of_two {
    ($row:ident, $last:literal) => {
        concat!(
            $row!("r0", "r8", "16"),
            $row!("r2", "r10", "16"),
            $row!("r4", "r12", "16"),
            $row!("r6", "lr", $last),
        )
    };
}

/// Groups of four rows until the results are full.
///
/// # Safety
/// As [`super::one_token::groups`], but records are those of a group of two tokens.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn groups<const BITS: u8, const OFFSET: bool>(
    turn: *const Turn,
    x: *const u8,
    weights: *const u8,
    params: *const u8,
    x_end: *const u8,
    out: *mut f32,
    code_bytes: usize,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d13}}",
        // On the stack: results of a group of both tokens; above what was pushed where the records end, where results go, bytes of a
        // block's activations.
        "sub sp, sp, #32",
        "mov r11, r0",
        "mov r7, r3",
        "mov r3, r2",
        ".if {bits} == 4",
        "vmov.i8 q6, #15",
        ".endif",
        "2:",
        // r1, r9: records of the tokens; r3: weights; r5: where a block's activations end; r7: parameters.
        "vmov.i32 q0, #0",
        "vstrw.32 q0, [sp]",
        "vstrw.32 q0, [sp, #16]",
        "3:",
        // r0, r2, r4, r6: the first token's sums of a block; r8, r10, r12, lr: the second's.
        "ldr r5, [sp, #124]",
        "add r9, r1, r5",
        "add r9, r9, #{number_bytes}",
        ".if {bits} == 4",
        "add r8, r9, r5",
        "add r5, r5, r1",
        "ldr r0, [r5, #8]",
        "ldr r8, [r8, #8]",
        ".else",
        "add r5, r5, r1",
        "movs r0, #0",
        "mov r8, r0",
        ".endif",
        "mov r2, r0",
        "mov r4, r0",
        "mov r6, r0",
        "mov r10, r8",
        "mov r12, r8",
        "mov lr, r8",
        "4:",
        ".if {bits} == 8",
        "vldrw.u32 q0, [r1], #16",
        "vldrw.u32 q1, [r9], #16",
        four_rows_of_two!(row_8_of_two, "80"),
        "vldrw.u32 q0, [r1], #16",
        "vldrw.u32 q1, [r9], #16",
        four_rows_of_two!(row_8_of_two, "336"),
        ".else",
        "vldrw.u32 q2, [r1, #16]",
        "vldrw.u32 q0, [r1], #32",
        "vldrw.u32 q3, [r9, #16]",
        "vldrw.u32 q1, [r9], #32",
        four_rows_of_two!(row_4_of_two, "208"),
        ".endif",
        "cmp r1, r5",
        "bne.w 4b",
        "vmov q2[2], q2[0], r0, r4",
        "vmov q2[3], q2[1], r2, r6",
        "vmov q3[2], q3[0], r8, r12",
        "vmov q3[3], q3[1], r10, lr",
        "vcvt.f32.s32 q2, q2",
        "vcvt.f32.s32 q3, q3",
        // r0, r2: the first token's d, d * Σq; r4, r6: the second's.
        "ldrd r0, r2, [r1]",
        "ldrd r4, r6, [r9], #16",
        "mov r1, r9",
        "vldrw.u32 q4, [sp]",
        "vldrw.u32 q5, [sp, #16]",
        "vldrh.u32 q0, [r7]",
        "vcvtb.f32.f16 q0, q0",
        "vmul.f32 q1, q0, r0",
        "vmul.f32 q0, q0, r4",
        "vfma.f32 q4, q2, q1",
        "vfma.f32 q5, q3, q0",
        ".if {offset}",
        "vldrh.u32 q0, [r7, #16]",
        "vcvtb.f32.f16 q0, q0",
        "vfma.f32 q4, q0, r2",
        "vfma.f32 q5, q0, r6",
        "add r7, r7, #2 * {param_bytes}",
        ".else",
        "add r7, r7, #{param_bytes}",
        ".endif",
        "vstrw.32 q4, [sp]",
        "vstrw.32 q5, [sp, #16]",
        "ldr r0, [sp, #116]",
        "cmp r1, r0",
        "bne.w 3b",
        // r5: results; r1: records; r2, r4: to the next weights and parameters; r6: to the multipliers; r8: where the results end;
        // r12: to the second token's results.
        "ldr r5, [sp, #120]",
        "ldm r11, {{r1, r2, r4, r6, r8, r11, r12}}",
        "add r6, r6, r5",
        "add r12, r12, r5",
        "add r3, r3, r2",
        "add r7, r7, r4",
        "vldrw.u32 q0, [r6]",
        "vmul.f32 q4, q4, q0",
        "vmul.f32 q5, q5, q0",
        "vstrw.32 q5, [r12]",
        "vstrw.32 q4, [r5], #16",
        "str r5, [sp, #120]",
        "cmp r5, r8",
        "bne.w 2b",
        "add sp, sp, #32",
        "vpop {{d8-d13}}",
        "pop {{r4-r11, pc}}",
        bits = const BITS,
        offset = const OFFSET as u8,
        param_bytes = const PARAM_BYTES,
        number_bytes = const NUMBER_BYTES,
    )
}
