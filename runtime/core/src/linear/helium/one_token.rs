//! One token with Helium: a vector of activations is read once for eight rows, whose sums take all registers that can be one.

use super::super::arm_rows::Turn;
use super::super::layout::{PARAM_BYTES, part_of};
use core::arch::naked_asm;

/// One row's sixteen columns of 8 bits. `first` adds to the sum or starts it; `next` bytes on lies the next row's.
macro_rules! row_8 {
    ($first:literal, $sum:literal, $next:literal) => {
        concat!(
            "vldrw.u32 q2, [r3], #",
            $next,
            "\n",
            $first,
            ".s8 ",
            $sum,
            ", q2, q0\n",
        )
    };
}

/// One row's 32 columns of 4 bits: even columns in q0, odd ones in q1.
macro_rules! row_4 {
    ($first:literal, $sum:literal, $next:literal) => {
        concat!(
            "vldrw.u32 q2, [r3], #",
            $next,
            "\n",
            "vand q3, q2, q6\n",
            $first,
            ".s8 ",
            $sum,
            ", q3, q0\n",
            "vshr.u8 q2, q2, #4\n",
            "vmladava.s8 ",
            $sum,
            ", q2, q1\n",
        )
    };
}

/// Eight rows, one after the other; the last brings the pointer to what follows.
macro_rules! eight_rows {
    ($row:ident, $first:literal, $last:literal) => {
        concat!(
            $row!($first, "r0", "16"),
            $row!($first, "r2", "16"),
            $row!($first, "r4", "16"),
            $row!($first, "r6", "16"),
            $row!($first, "r8", "16"),
            $row!($first, "r10", "16"),
            $row!($first, "r12", "16"),
            $row!($first, "lr", $last),
        )
    };
}

/// A part of a block: the first one of a block starts the sums.
macro_rules! part {
    ($first:literal) => {
        concat!(
            ".if {bits} == 8\n",
            "vldrw.u32 q0, [r1], #16\n",
            eight_rows!(row_8, $first, "16"),
            "vldrw.u32 q0, [r1], #16\n",
            eight_rows!(row_8, "vmladava", "272"),
            ".else\n",
            "vldrw.u32 q1, [r1, #16]\n",
            "vldrw.u32 q0, [r1], #32\n",
            eight_rows!(row_4, $first, "144"),
            ".endif\n",
        )
    };
}

/// Groups of eight rows until the results are full. Even rows are in one vector and odd ones in another: eight scales of 16 bits, as
/// they lie there, are the low and the high halves of four words.
///
/// # Safety
/// The pointers must be those of a tile and its activations, the turns' differences must lead to the next group's; records are those
/// of a group of one token.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn groups<const BITS: u8, const OFFSET: bool, const BLOCK: usize>(
    turn: *const Turn,
    x: *const u8,
    weights: *const u8,
    params: *const u8,
    x_end: *const u8,
    out: *mut f32,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d13}}",
        // r1: records; r3: weights; r5: results; r7: parameters; r9: where the records end; r11: the turn.
        "ldrd r9, r5, [sp, #84]",
        "mov r11, r0",
        "mov r7, r3",
        "mov r3, r2",
        ".if {bits} == 4",
        "vmov.i8 q6, #15",
        ".endif",
        "2:",
        // q4, q5: results of even and of odd rows.
        "vmov.i32 q4, #0",
        "vmov.i32 q5, #0",
        "3:",
        // r0, r2 and so on to r12 and lr: the sums of a block.
        part!("vmladav"),
        ".if {parts} > 1",
        part!("vmladava"),
        ".endif",
        ".if {parts} > 2",
        part!("vmladava"),
        part!("vmladava"),
        ".endif",
        "vmov q2[2], q2[0], r0, r8",
        "vmov q2[3], q2[1], r4, r12",
        "vmov q3[2], q3[0], r2, r10",
        "vmov q3[3], q3[1], r6, lr",
        ".if {bits} == 4",
        "ldr r4, [r1, #8]",
        "vadd.i32 q2, q2, r4",
        "vadd.i32 q3, q3, r4",
        ".endif",
        "vcvt.f32.s32 q2, q2",
        "vcvt.f32.s32 q3, q3",
        // r0, r2: d, d * Σq.
        "ldrd r0, r2, [r1], #16",
        "vldrh.u16 q1, [r7], #{after_scales}",
        "vcvtb.f32.f16 q0, q1",
        "vcvtt.f32.f16 q1, q1",
        "vmul.f32 q0, q0, r0",
        "vmul.f32 q1, q1, r0",
        "vfma.f32 q4, q2, q0",
        "vfma.f32 q5, q3, q1",
        ".if {offset}",
        "vldrh.u16 q1, [r7], #48",
        "vcvtb.f32.f16 q0, q1",
        "vcvtt.f32.f16 q1, q1",
        "vfma.f32 q4, q0, r2",
        "vfma.f32 q5, q1, r2",
        ".endif",
        "cmp r1, r9",
        "bne.w 3b",
        // r1: records; r2, r4: to the next weights and parameters; r6: to the multipliers; r8: where the results end.
        "ldm r11, {{r1, r2, r4, r6, r8, r11}}",
        "add r6, r6, r7",
        "add r3, r3, r2",
        "add r7, r7, r4",
        "vld20.32 {{q0, q1}}, [r6]",
        "vld21.32 {{q0, q1}}, [r6]",
        "vmul.f32 q4, q4, q0",
        "vmul.f32 q5, q5, q1",
        "vst20.32 {{q4, q5}}, [r5]",
        "vst21.32 {{q4, q5}}, [r5]!",
        "cmp r5, r8",
        "bne.w 2b",
        "vpop {{d8-d13}}",
        "pop {{r4-r11, pc}}",
        bits = const BITS,
        parts = const BLOCK / part_of(BLOCK),
        offset = const OFFSET as u8,
        // To the offsets, or to the next block's scales.
        after_scales = const if OFFSET { PARAM_BYTES / 2 } else { PARAM_BYTES },
    )
}
