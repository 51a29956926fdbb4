//! Cortex-M with the DSP extension and an FPU (M4, M7, M33): four rows at a time for one token, two rows for two tokens.
//!
//! `smlad` multiplies two pairs of 16-bit numbers and adds both products to a 32-bit sum. Activations lie widened to
//! such pairs in the records; what unpacks the weights is what costs.
//!
//! 8 bits: a word holds the codes of four columns a, b, c, d of one row, a and c as 0..=255, b and d as -128..=127. Read as
//! two 16-bit numbers it is `[256 b + a, 256 d + c]`, and `uxtb16` gives `[a, c]`. So with activations `B = [xb, xd]` and
//! `A = [256 xa - xb, 256 xc - xd]` the sum `word·B + uxtb16(word)·A` is `256 (a xa + b xb + c xc + d xd)`, one instruction of
//! unpacking for four products. What `a` and `c` are too large by (128) is in what the sum starts at. Sums are modulo 2³²: the
//! largest, 128 columns of 128 · 127, is far below 2³¹ / 256.
//!
//! 4 bits: `and mask, word lsr n` gives two codes as 0..=15 in 16-bit lanes, in one instruction.
//!
//! One token takes four rows: a word of activations is read once for all of them. Two tokens take two rows, so that a word of
//! weights is unpacked once for both. All registers are taken, so pointers wait on the stack.

use super::activations::{DSP_NUMBER_BYTES, Order};
use super::arm_rows::Rows;
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, part_of};
use super::scalar::dense_tile;
use core::arch::naked_asm;

implementations! {
    quantised: "arm-dsp",
    dense: "scalar",
    Interleave::of(crate::IsaKind::ArmDsp),
    if BITS == 4 { Order::Halves } else { Order::SplitPairs },
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
    // SAFETY: the caller's promise.
    unsafe { any_tile::<BITS, TOKENS>(tile) };
}

/// All sizes of blocks, with offsets and without, in one function: flash is dear. The tile's shape tells them apart.
///
/// # Safety
/// See [`super::kernel::TileFn`].
#[inline(never)]
unsafe fn any_tile<const BITS: u8, const TOKENS: usize>(tile: &Tile<'_>) {
    let codes = TOKENS * tile.shape.parts * part_of(32) * 2;
    let groups = if TOKENS == 1 { 4 } else { 8 };
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = Rows::of(tile, codes + TOKENS * DSP_NUMBER_BYTES, codes, groups);
        if TOKENS == 1 {
            one_token::<BITS>(&mut rows);
        } else {
            two_tokens::<BITS>(&mut rows);
        }
    }
}

/// Bytes of a part of a block of four rows.
const fn group_bytes(bits: u8) -> usize {
    part_of(32) * bits as usize / 8 * 4
}

/// The products of one token and four rows with one word of 8-bit codes each: `a` and `b` are the registers of the
/// activations A and B.
macro_rules! four_rows_8 {
    ($a:literal, $b:literal) => {
        concat!(
            "ldm r1!, {{r6-r9}}\n",
            four_rows_8!(@ "r10", "r6", $a, $b),
            four_rows_8!(@ "r11", "r7", $a, $b),
            four_rows_8!(@ "r12", "r8", $a, $b),
            four_rows_8!(@ "lr", "r9", $a, $b),
        )
    };
    (@ $sum:literal, $word:literal, $a:literal, $b:literal) => {
        concat!(
            "smlad ", $sum, ", ", $word, ", ", $b, ", ", $sum, "\n",
            "uxtb16 ", $word, ", ", $word, "\n",
            "smlad ", $sum, ", ", $word, ", ", $a, ", ", $sum, "\n",
        )
    };
}

/// The products of one token and two rows with one word of 4-bit codes each.
macro_rules! two_rows_4 {
    ($first:literal, $second:literal) => {
        concat!(
            "ldm r1!, {{r6, r7}}\n",
            two_rows_4!(@ $first, "r6"),
            two_rows_4!(@ $second, "r7"),
        )
    };
    (@ $sum:literal, $word:literal) => {
        concat!(
            "and r8, r9, ", $word, "\n",
            "smlad ", $sum, ", r8, r2, ", $sum, "\n",
            "and r8, r9, ", $word, ", lsr #4\n",
            "smlad ", $sum, ", r8, r3, ", $sum, "\n",
            "and r8, r9, ", $word, ", lsr #8\n",
            "smlad ", $sum, ", r8, r4, ", $sum, "\n",
            "and r8, r9, ", $word, ", lsr #12\n",
            "smlad ", $sum, ", r8, r5, ", $sum, "\n",
        )
    };
}

/// Eight columns of [`one_token`].
macro_rules! eight_columns {
    () => {
        concat!(
            "ldm r0!, {{r2-r5}}\n",
            ".if {bits} == 8\n",
            four_rows_8!("r2", "r3"),
            four_rows_8!("r4", "r5"),
            ".else\n",
            two_rows_4!("r10", "r11"),
            two_rows_4!("r12", "lr"),
            ".endif\n",
        )
    };
}

/// Adds a block's products to one result: registers of the result, the sum, the scale's half of a register, and `d`.
macro_rules! add_scaled {
    ($half:literal, $acc:literal, $sum:literal, $scale:literal, $d:literal) => {
        concat!(
            "vcvt",
            $half,
            ".f32.f16 s10, ",
            $scale,
            "\n",
            "vmul.f32 s10, s10, ",
            $d,
            "\n",
            "vfma.f32 ",
            $acc,
            ", ",
            $sum,
            ", s10\n",
        )
    };
}

/// Adds a block's offset to one result: registers of the result, the offset's half of a register, and `d * Σq`.
macro_rules! add_offset {
    ($half:literal, $acc:literal, $offset:literal, $d_sum:literal) => {
        concat!(
            "vcvt",
            $half,
            ".f32.f16 s11, ",
            $offset,
            "\n",
            "vfma.f32 ",
            $acc,
            ", s11, ",
            $d_sum,
            "\n",
        )
    };
}

/// The sums s0 to s3 as floats.
macro_rules! sums_to_floats {
    () => {
        concat!(
            ".irp n, 0, 1, 2, 3\n",
            ".if {bits} == 8\n",
            "vcvt.f32.s32 s\\n, s\\n, #8\n",
            ".else\n",
            "vcvt.f32.s32 s\\n, s\\n\n",
            ".endif\n",
            ".endr\n",
        )
    };
}

/// One token, groups of four rows, as many tiles as there are groups for.
///
/// # Safety
/// The pointers must be good for the numbers of groups and blocks; records are those of a group of one token.
#[unsafe(naked)]
unsafe extern "C" fn one_token<const BITS: u8>(rows: &mut Rows) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        // On the stack: where `rows` is, then params, the end of the records, the end of a block's activations.
        "push {{r0-r11, lr}}",
        "2:",
        "ldr r12, [sp]",
        // r0: records; r1: weights; results in s12 to s15.
        "ldm r12, {{r0-r3}}",
        "strd r2, r3, [sp, #4]",
        "mov r4, #0",
        "vmov s12, s13, r4, r4",
        "vmov s14, s15, r4, r4",
        ".if {bits} == 4",
        "mov r9, #0x000F000F",
        ".endif",
        "3:",
        // r10, r11, r12, lr: the sums of a block.
        "ldr r2, [sp]",
        "ldr r10, [r0], #4",
        "ldr r2, [r2, #28]",
        "add r2, r2, r0",
        "str r2, [sp, #12]",
        "mov r11, r10",
        "mov r12, r10",
        "mov lr, r10",
        "4:",
        eight_columns!(),
        eight_columns!(),
        eight_columns!(),
        eight_columns!(),
        // To the next part of these rows.
        "ldr r2, [sp, #12]",
        "add r1, r1, #3 * {group_bytes}",
        "cmp r0, r2",
        "bne.w 4b",
        "ldr r2, [sp, #4]",
        "vmov s0, s1, r10, r11",
        "vmov s2, s3, r12, lr",
        // s4, s5: d, d * Σq; s6, s7: scales; s8, s9: offsets, or whatever follows; r3: bytes of a block's parameters.
        "ldr r3, [sp]",
        "ldr r3, [r3, #40]",
        "vldmia r0!, {{s4, s5}}",
        "vldmia r2, {{s6-s9}}",
        "add r2, r2, r3",
        "str r2, [sp, #4]",
        sums_to_floats!(),
        add_scaled!("b", "s12", "s0", "s6", "s4"),
        add_scaled!("t", "s13", "s1", "s6", "s4"),
        add_scaled!("b", "s14", "s2", "s7", "s4"),
        add_scaled!("t", "s15", "s3", "s7", "s4"),
        "cmp r3, #{param_bytes}",
        "beq 6f",
        add_offset!("b", "s12", "s8", "s5"),
        add_offset!("t", "s13", "s8", "s5"),
        add_offset!("b", "s14", "s9", "s5"),
        add_offset!("t", "s15", "s9", "s5"),
        "6:",
        "ldr r2, [sp, #8]",
        "cmp r0, r2",
        "bne.w 3b",
        "ldr r12, [sp]",
        "ldrd r2, r3, [r12, #16]",
        "vldmia r2!, {{s0-s3}}",
        "vmul.f32 s12, s12, s0",
        "vmul.f32 s13, s13, s1",
        "vmul.f32 s14, s14, s2",
        "vmul.f32 s15, s15, s3",
        "vstmia r3!, {{s12-s15}}",
        "strd r2, r3, [r12, #16]",
        "ldrd r2, r3, [r12, #4]",
        // A group of rows has a quarter of the parameters.
        "ldr r4, [r12, #40]",
        "add r2, r2, #{group_bytes}",
        "add r3, r3, r4, lsr #2",
        "strd r2, r3, [r12, #4]",
        "ldr r2, [r12, #24]",
        "subs r2, r2, #1",
        "str r2, [r12, #24]",
        "beq 5f",
        "tst r2, #3",
        "bne.w 2b",
        // To the next tile.
        "ldrd r4, r5, [r12, #36]",
        "ldrd r2, r3, [r12, #4]",
        "sub r2, r2, #4 * {group_bytes}",
        "sub r3, r3, r5",
        "add r2, r2, r4",
        "add r3, r3, r4",
        "strd r2, r3, [r12, #4]",
        "ldr r2, [r12, #16]",
        "sub r2, r2, #64",
        "add r2, r2, r4",
        "str r2, [r12, #16]",
        "b 2b",
        "5:",
        "add sp, sp, #16",
        "pop {{r4-r11, pc}}",
        bits = const BITS,
        group_bytes = const group_bytes(BITS),
        param_bytes = const PARAM_BYTES,
    )
}

/// Four columns of [`two_tokens`], 8 bits: r2 to r5 are A, B of the first token and A, B of the second.
macro_rules! four_columns_8 {
    () => {
        concat!(
            "ldm r0!, {{r2-r5}}\n",
            "ldrd r6, r7, [r1], #16\n",
            "smlad r8, r6, r3, r8\n",
            "smlad r9, r6, r5, r9\n",
            "uxtb16 r6, r6\n",
            "smlad r8, r6, r2, r8\n",
            "smlad r9, r6, r4, r9\n",
            "smlad r10, r7, r3, r10\n",
            "smlad r11, r7, r5, r11\n",
            "uxtb16 r7, r7\n",
            "smlad r10, r7, r2, r10\n",
            "smlad r11, r7, r4, r11\n",
        )
    };
}

/// Four columns of [`two_tokens`], 4 bits: codes of the words r6 and r7 that two shifts give; r2 to r5 are the activations that
/// belong to the first shift of both tokens, then those for the second.
macro_rules! four_columns_4 {
    ($first:literal, $second:literal) => {
        concat!(
            "ldm r0!, {{r2-r5}}\n",
            "and r12, lr, r6",
            $first,
            "\n",
            "smlad r8, r12, r2, r8\n",
            "smlad r9, r12, r3, r9\n",
            "and r12, lr, r6",
            $second,
            "\n",
            "smlad r8, r12, r4, r8\n",
            "smlad r9, r12, r5, r9\n",
            "and r12, lr, r7",
            $first,
            "\n",
            "smlad r10, r12, r2, r10\n",
            "smlad r11, r12, r3, r11\n",
            "and r12, lr, r7",
            $second,
            "\n",
            "smlad r10, r12, r4, r10\n",
            "smlad r11, r12, r5, r11\n",
        )
    };
}

/// Eight columns of [`two_tokens`].
macro_rules! eight_columns_of_two {
    () => {
        concat!(
            ".if {bits} == 8\n",
            four_columns_8!(),
            four_columns_8!(),
            ".else\n",
            "ldrd r6, r7, [r1], #16\n",
            four_columns_4!("", ", lsr #4"),
            four_columns_4!(", lsr #8", ", lsr #12"),
            ".endif\n",
        )
    };
}

/// Two tokens, groups of two rows.
///
/// # Safety
/// As [`one_token`], but records are those of a group of two tokens.
#[unsafe(naked)]
unsafe extern "C" fn two_tokens<const BITS: u8>(rows: &mut Rows) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r0-r11, lr}}",
        "2:",
        "ldr r12, [sp]",
        // Results: s12, s13 of the first token's rows, s14, s15 of the second's.
        "ldm r12, {{r0-r3}}",
        "strd r2, r3, [sp, #4]",
        "mov r4, #0",
        "vmov s12, s13, r4, r4",
        "vmov s14, s15, r4, r4",
        ".if {bits} == 4",
        "mov lr, #0x000F000F",
        ".endif",
        "3:",
        // r8, r9: the first row's sums of both tokens; r10, r11: the second row's.
        "ldr r2, [sp]",
        "ldrd r8, r9, [r0], #8",
        "ldr r2, [r2, #28]",
        "add r2, r2, r0",
        "str r2, [sp, #12]",
        "mov r10, r8",
        "mov r11, r9",
        "4:",
        eight_columns_of_two!(),
        eight_columns_of_two!(),
        eight_columns_of_two!(),
        eight_columns_of_two!(),
        "ldr r2, [sp, #12]",
        "add r1, r1, #3 * {group_bytes}",
        "cmp r0, r2",
        "bne.w 4b",
        "ldr r2, [sp, #4]",
        "vmov s0, s1, r8, r10",
        "vmov s2, s3, r9, r11",
        // s4, s5: d of both tokens; s6, s7: d * Σq; s8: two scales; s9: two offsets, or whatever follows; r3: bytes of a block's
        // parameters.
        "ldr r3, [sp]",
        "ldr r3, [r3, #40]",
        "vldmia r0!, {{s4-s7}}",
        "vldr s8, [r2]",
        "vldr s9, [r2, #8]",
        "add r2, r2, r3",
        "str r2, [sp, #4]",
        sums_to_floats!(),
        add_scaled!("b", "s12", "s0", "s8", "s4"),
        add_scaled!("t", "s13", "s1", "s8", "s4"),
        add_scaled!("b", "s14", "s2", "s8", "s5"),
        add_scaled!("t", "s15", "s3", "s8", "s5"),
        "cmp r3, #{param_bytes}",
        "beq 6f",
        add_offset!("b", "s12", "s9", "s6"),
        add_offset!("t", "s13", "s9", "s6"),
        add_offset!("b", "s14", "s9", "s7"),
        add_offset!("t", "s15", "s9", "s7"),
        "6:",
        "ldr r2, [sp, #8]",
        "cmp r0, r2",
        "bne.w 3b",
        "ldr r12, [sp]",
        "ldrd r2, r3, [r12, #16]",
        "ldr r4, [r12, #32]",
        "vldmia r2!, {{s0, s1}}",
        "vmul.f32 s12, s12, s0",
        "vmul.f32 s13, s13, s1",
        "vmul.f32 s14, s14, s0",
        "vmul.f32 s15, s15, s1",
        "vstmia r3!, {{s12, s13}}",
        "vstmia r4!, {{s14, s15}}",
        "strd r2, r3, [r12, #16]",
        "str r4, [r12, #32]",
        "ldrd r2, r3, [r12, #4]",
        "ldr r4, [r12, #24]",
        "ldr r5, [r12, #40]",
        "lsr r5, r5, #2",
        "sub r5, r5, #4",
        "tst r4, #1",
        // To the other two rows of a group of four, or to the next group.
        "ittee eq",
        "addeq r2, r2, #8",
        "addeq r3, r3, #4",
        "addne r2, r2, #{group_bytes} - 8",
        "addne r3, r3, r5",
        "strd r2, r3, [r12, #4]",
        "subs r4, r4, #1",
        "str r4, [r12, #24]",
        "bne.w 2b",
        "add sp, sp, #16",
        "pop {{r4-r11, pc}}",
        bits = const BITS,
        group_bytes = const group_bytes(BITS),
        param_bytes = const PARAM_BYTES,
    )
}
