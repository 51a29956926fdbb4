//! Cortex-M with Helium (M55, M85): eight rows at a time for one token, four rows for two tokens.
//!
//! `vmladava` multiplies sixteen bytes by sixteen, adds all products and adds that to a register of the core; only even registers
//! can be such a sum, and there are eight. So eight sums run side by side: a vector of activations is read once for eight
//! rows, or a vector of weights once for two tokens. With 4 bits a vector of bytes gives two of codes, as 0..=15: what they are
//! too large by is in what the sums start at.
//!
//! Vectors of floats flush numbers below 2⁻¹²⁶ to zero: the only place where results can differ from the scalar twin's.

use super::activations::{NUMBER_BYTES, Order};
use super::arm_rows::Rows;
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, part_of};
use super::scalar::dense_tile;
use core::arch::naked_asm;

implementations! {
    quantised: "helium",
    dense: "scalar",
    Interleave::of(crate::IsaKind::Helium),
    Order::Plain,
    tokens: [2, 1],
    takes_runs: true,
}

/// # Safety
/// See [`super::kernel::TileFn`].
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
) {
    let groups = if TOKENS == 1 { 2 } else { 4 };
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = Rows::of(tile, TOKENS * (BLOCK + NUMBER_BYTES), BLOCK, groups);
        if TOKENS == 1 {
            one_token::<BITS, OFFSET, BLOCK>(&mut rows);
        } else {
            two_tokens::<BITS, OFFSET>(&mut rows);
        }
    }
}

/// Bytes of a part of a block of eight rows.
const fn group_bytes(bits: u8) -> usize {
    8 * 32 * bits as usize / 8
}

/// One row's sixteen columns of 8 bits by one token's. `first` adds to the sum or starts it; `next` bytes on lies the next row's.
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

/// One row's 32 columns of 4 bits by one token's: even columns in q0, odd ones in q1.
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

/// The eight sums in q2 (`r0` to `r6`) and q3.
macro_rules! lanes_from_sums {
    () => {
        concat!(
            "vmov q2[2], q2[0], r0, r4\n",
            "vmov q2[3], q2[1], r2, r6\n",
            "vmov q3[2], q3[0], r8, r12\n",
            "vmov q3[3], q3[1], r10, lr\n",
        )
    };
}

/// One token, groups of eight rows, as many tiles as there are groups for.
///
/// # Safety
/// The pointers must be good for the numbers of groups and blocks; records are those of a group of one token.
#[unsafe(naked)]
unsafe extern "C" fn one_token<const BITS: u8, const OFFSET: bool, const BLOCK: usize>(
    rows: &mut Rows,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r11, lr}}",
        "sub sp, sp, #4",
        "vpush {{d8-d13}}",
        "mov r11, r0",
        ".if {bits} == 4",
        "vmov.i8 q6, #15",
        ".endif",
        "2:",
        // r1: records; r3: weights; r7: params; r9: where the records end; q4, q5: results.
        "ldrd r1, r3, [r11]",
        "ldrd r7, r9, [r11, #8]",
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
        lanes_from_sums!(),
        ".if {bits} == 4",
        "ldr r4, [r1, #8]",
        "vadd.i32 q2, q2, r4",
        "vadd.i32 q3, q3, r4",
        ".endif",
        "vcvt.f32.s32 q2, q2",
        "vcvt.f32.s32 q3, q3",
        // r0, r2: d, d * Σq.
        "ldrd r0, r2, [r1], #16",
        "vldrh.u32 q0, [r7], #8",
        "vldrh.u32 q1, [r7], #{after_scales}",
        "vcvtb.f32.f16 q0, q0",
        "vcvtb.f32.f16 q1, q1",
        "vmul.f32 q0, q0, r0",
        "vmul.f32 q1, q1, r0",
        "vfma.f32 q4, q2, q0",
        "vfma.f32 q5, q3, q1",
        ".if {offset}",
        "vldrh.u32 q0, [r7], #8",
        "vldrh.u32 q1, [r7], #40",
        "vcvtb.f32.f16 q0, q0",
        "vcvtb.f32.f16 q1, q1",
        "vfma.f32 q4, q0, r2",
        "vfma.f32 q5, q1, r2",
        ".endif",
        "cmp r1, r9",
        "bne.w 3b",
        "ldrd r0, r2, [r11, #16]",
        "vldrw.u32 q0, [r0], #16",
        "vldrw.u32 q1, [r0], #16",
        "vmul.f32 q4, q4, q0",
        "vmul.f32 q5, q5, q1",
        "vstrw.32 q4, [r2], #16",
        "vstrw.32 q5, [r2], #16",
        "ldrd r3, r7, [r11, #4]",
        "add r3, r3, #{group_bytes}",
        "add r7, r7, #{group_params}",
        "ldr r4, [r11, #24]",
        "subs r4, r4, #1",
        "beq 5f",
        "tst r4, #1",
        "bne 4f",
        // To the next tile.
        "ldr r6, [r11, #36]",
        "sub r3, r3, #2 * {group_bytes}",
        "sub r7, r7, #2 * {group_params}",
        "sub r0, r0, #64",
        "add r3, r3, r6",
        "add r7, r7, r6",
        "add r0, r0, r6",
        "4:",
        "strd r3, r7, [r11, #4]",
        "strd r0, r2, [r11, #16]",
        "str r4, [r11, #24]",
        "b 2b",
        "5:",
        "vpop {{d8-d13}}",
        "add sp, sp, #4",
        "pop {{r4-r11, pc}}",
        bits = const BITS,
        parts = const BLOCK / part_of(BLOCK),
        offset = const OFFSET as u8,
        group_bytes = const group_bytes(BITS),
        // To the offsets, or to the next block's scales.
        after_scales = const if OFFSET { 8 } else { PARAM_BYTES - 8 },
        group_params = const if OFFSET { 32 } else { 16 },
    )
}

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

/// Two tokens, groups of four rows.
///
/// # Safety
/// As [`one_token`], but records are those of a group of two tokens.
#[unsafe(naked)]
unsafe extern "C" fn two_tokens<const BITS: u8, const OFFSET: bool>(rows: &mut Rows) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r11, lr}}",
        "vpush {{d8-d13}}",
        // On the stack: where the records end, then the results of both tokens.
        "sub sp, sp, #36",
        "mov r11, r0",
        ".if {bits} == 4",
        "vmov.i8 q6, #15",
        ".endif",
        "2:",
        // r1, r9: records of the tokens; r3: weights; r5: where a block's activations end; r7: params.
        "ldrd r1, r3, [r11]",
        "ldrd r7, r0, [r11, #8]",
        "str r0, [sp]",
        "vmov.i32 q0, #0",
        "vstrw.32 q0, [sp, #4]",
        "vstrw.32 q0, [sp, #20]",
        "3:",
        // r0, r2, r4, r6: the first token's sums of a block; r8, r10, r12, lr: the second's.
        "ldr r5, [r11, #28]",
        "add r9, r1, r5",
        "add r9, r9, #{number_bytes}",
        "add r5, r5, r1",
        ".if {bits} == 4",
        "ldr r0, [r5, #8]",
        "ldr r8, [r11, #28]",
        "add r8, r8, r9",
        "ldr r8, [r8, #8]",
        ".else",
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
        lanes_from_sums!(),
        "vcvt.f32.s32 q2, q2",
        "vcvt.f32.s32 q3, q3",
        // r0, r2: the first token's d, d * Σq; r4, r6: the second's.
        "ldrd r0, r2, [r1]",
        "ldrd r4, r6, [r9], #16",
        "mov r1, r9",
        "vldrw.u32 q4, [sp, #4]",
        "vldrw.u32 q5, [sp, #20]",
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
        "vstrw.32 q4, [sp, #4]",
        "vstrw.32 q5, [sp, #20]",
        "ldr r0, [sp]",
        "cmp r1, r0",
        "bne.w 3b",
        "ldrd r0, r2, [r11, #16]",
        "ldr r4, [r11, #32]",
        "vldrw.u32 q0, [r0], #16",
        "vmul.f32 q4, q4, q0",
        "vmul.f32 q5, q5, q0",
        "vstrw.32 q4, [r2], #16",
        "vstrw.32 q5, [r4], #16",
        "strd r0, r2, [r11, #16]",
        "str r4, [r11, #32]",
        "ldrd r3, r7, [r11, #4]",
        "ldr r0, [r11, #24]",
        "tst r0, #1",
        // To the other four rows of a group of eight, or to the next group.
        "ittee eq",
        "addeq r3, r3, #64",
        "addeq r7, r7, #8",
        "addne r3, r3, #{group_bytes} - 64",
        "addne r7, r7, #{group_params} - 8",
        "strd r3, r7, [r11, #4]",
        "subs r0, r0, #1",
        "str r0, [r11, #24]",
        "bne.w 2b",
        "add sp, sp, #36",
        "vpop {{d8-d13}}",
        "pop {{r4-r11, pc}}",
        bits = const BITS,
        offset = const OFFSET as u8,
        group_bytes = const group_bytes(BITS),
        param_bytes = const PARAM_BYTES,
        number_bytes = const NUMBER_BYTES,
        group_params = const if OFFSET { 32 } else { 16 },
    )
}
