//! One token, four rows: a word of activations is read once for all of them.

use super::super::arm_rows::Turn;
use super::super::layout::PARAM_BYTES;
use super::group_bytes;
use core::arch::naked_asm;

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

/// Eight columns of [`groups`].
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

/// Groups of four rows until the results are full.
///
/// # Safety
/// The pointers must be those of a tile and its activations, the turns' differences must lead to the next group's; records are those
/// of a group of one token.
#[unsafe(naked)]
#[allow(
    clippy::too_many_arguments,
    reason = "they lie on the stack as the assembler wants them"
)]
pub(super) unsafe extern "C" fn groups<const BITS: u8>(
    turn: *const Turn,
    weights: *const u8,
    out: *mut f32,
    params: *const u8,
    x: *const u8,
    x_end: *const u8,
    code_bytes: usize,
    params_bytes: usize,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r0-r11, lr}}",
        "ldr r0, [sp, #52]",
        ".if {bits} == 4",
        "mov r9, #0x000F000F",
        ".endif",
        "2:",
        // r0: records; r1: weights; results in s12 to s15.
        "mov r4, #0",
        "vmov s12, s13, r4, r4",
        "vmov s14, s15, r4, r4",
        "3:",
        // r10, r11, r12, lr: the sums of a block.
        "ldr r2, [sp, #60]",
        "ldr r10, [r0], #4",
        "add r2, r2, r0",
        "str r2, [sp, #4]",
        "mov r11, r10",
        "mov r12, r10",
        "mov lr, r10",
        "4:",
        eight_columns!(),
        eight_columns!(),
        eight_columns!(),
        eight_columns!(),
        // To the next part of these rows.
        "ldr r2, [sp, #4]",
        "add r1, r1, #3 * {group_bytes}",
        "cmp r0, r2",
        "bne.w 4b",
        "ldr r2, [sp, #12]",
        "ldr r3, [sp, #64]",
        "vmov s0, s1, r10, r11",
        "vmov s2, s3, r12, lr",
        // s4, s5: d, d * Σq; s6, s7: scales; s8, s9: offsets, or whatever follows.
        "vldmia r0!, {{s4, s5}}",
        "vldmia r2, {{s6-s9}}",
        "add r2, r2, r3",
        "str r2, [sp, #12]",
        end_of_block!(scales: "s6", "s7"; d: "s4", "s4"; offsets: "s8", "s9"; sums: "s5", "s5"),
        load_turn!("r0, r2, r3, r4, r6, r7"),
        "add r4, r4, r10",
        "vldmia r4, {{s0-s3}}",
        "vmul.f32 s12, s12, s0",
        "vmul.f32 s13, s13, s1",
        "vmul.f32 s14, s14, s2",
        "vmul.f32 s15, s15, s3",
        "vstmia r5!, {{s12-s15}}",
        end_of_group!(),
        bits = const BITS,
        group_bytes = const group_bytes(BITS),
        param_bytes = const PARAM_BYTES,
    )
}
