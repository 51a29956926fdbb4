//! Two tokens, two rows: a word of weights is unpacked once for both.

use super::super::arm_rows::Turn;
use super::super::layout::PARAM_BYTES;
use super::group_bytes;
use core::arch::naked_asm;

/// Four columns of [`groups`], 8 bits: r2 to r5 are A, B of the first token and A, B of the second.
macro_rules! four_columns_8 {
    ($next:literal) => {
        concat!(
            "ldm r0!, {{r2-r5}}\n",
            "ldrd r6, r7, [r1], #",
            $next,
            "\n",
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

/// Four columns of [`groups`], 4 bits: codes of the words r6 and r7 that two shifts give; r2 to r5 are the activations that
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

/// Eight columns of [`groups`]; what follows is `next` bytes after the last weights.
macro_rules! eight_columns {
    ($next:literal) => {
        concat!(
            ".if {bits} == 8\n",
            four_columns_8!("16"),
            four_columns_8!($next),
            ".else\n",
            "ldrd r6, r7, [r1], #",
            $next,
            "\n",
            four_columns_4!("", ", lsr #4"),
            four_columns_4!(", lsr #8", ", lsr #12"),
            ".endif\n",
        )
    };
}

/// Groups of two rows until the results are full.
///
/// # Safety
/// As [`super::one_token::groups`], but records are those of a group of two tokens.
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
        "mov lr, #0x000F000F",
        ".endif",
        "2:",
        // r0: records; r1: weights; results: s12, s13 of the first token's rows, s14, s15 of the second's.
        "mov r4, #0",
        "vmov s12, s13, r4, r4",
        "vmov s14, s15, r4, r4",
        "3:",
        // r8, r9: the first row's sums of both tokens; r10, r11: the second row's.
        "ldr r2, [sp, #60]",
        "ldrd r8, r9, [r0], #8",
        "add r2, r2, r0",
        "str r2, [sp, #4]",
        "mov r10, r8",
        "mov r11, r9",
        "4:",
        eight_columns!("16"),
        eight_columns!("16"),
        eight_columns!("16"),
        // To the next part of these rows.
        eight_columns!("16 + 3 * {group_bytes}"),
        "ldr r2, [sp, #4]",
        "cmp r0, r2",
        "bne.w 4b",
        "ldr r2, [sp, #12]",
        "ldr r3, [sp, #64]",
        "vmov s0, s1, r8, r10",
        "vmov s2, s3, r9, r11",
        // s4, s5: d of both tokens; s6, s7: d * Σq; s8: two scales; s9: two offsets, or whatever follows.
        "vldmia r0!, {{s4-s7}}",
        "vldr s8, [r2]",
        "vldr s9, [r2, #8]",
        "add r2, r2, r3",
        "str r2, [sp, #12]",
        end_of_block!(scales: "s8", "s8"; d: "s4", "s5"; offsets: "s9", "s9"; sums: "s6", "s7"),
        load_turn!("r0, r2, r3, r4, r6, r7, r8"),
        "add r4, r4, r5",
        "add r8, r8, r5",
        "vldmia r4, {{s0, s1}}",
        "vmul.f32 s12, s12, s0",
        "vmul.f32 s13, s13, s1",
        "vmul.f32 s14, s14, s0",
        "vmul.f32 s15, s15, s1",
        "vstmia r8, {{s14, s15}}",
        "vstmia r5!, {{s12, s13}}",
        end_of_group!(),
        bits = const BITS,
        group_bytes = const group_bytes(BITS),
        param_bytes = const PARAM_BYTES,
    )
}
