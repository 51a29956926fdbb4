//! `sdot` for several tokens and blocks of 64 or 128 columns.
//!
//! The sum of a block runs over its parts of 32 columns, so it must wait in a register for each token beside the token's
//! result: eight tokens at a time.

use super::super::activations::Order;
use super::super::kernel::Tile;
use super::super::layout::{PARAM_BYTES, part_of};
use super::steps::{
    add_block, codes_of_group, mask_of_group, params_of_group, sixteen_columns, store_results,
    zero_results,
};
use super::{codes_at, part_bytes};
use core::arch::asm;

/// Four rows by `TOKENS` tokens, at most 16.
///
/// # Safety
/// As [`super::group_of_rows`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn several_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
    const HIGH: bool,
>(
    tile: &Tile<'_>,
    group: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS > 8 {
            some_tokens::<BITS, BLOCK, OFFSET, 8, HIGH>(tile, group, TOKENS, 0);
            some_tokens::<BITS, BLOCK, OFFSET, 8, HIGH>(tile, group, TOKENS, 8);
        } else {
            some_tokens::<BITS, BLOCK, OFFSET, TOKENS, HIGH>(tile, group, TOKENS, 0);
        }
    }
}

/// Adds the block to the results: for each token its number, and the registers of its result and its sum.
macro_rules! update_tokens {
    ($($token:literal $result:literal $sum:literal),+) => {
        concat!($(
            ".if ", $token, " < {tokens}\n",
            "ld1 {{v3.4s}}, [{part_x}], {record}\n",
            add_block!($result, $sum),
            ".endif\n",
        )+)
    };
}

/// `TOKENS` of a group of `all` tokens, from `first` on.
///
/// # Safety
/// As [`several_tokens`]; `TOKENS` is at most 8, `first + TOKENS` at most `all`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn some_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
    const HIGH: bool,
>(
    tile: &Tile<'_>,
    group: usize,
    all: usize,
    first: usize,
) {
    let record = const { Order::Started { middle: 0 }.record_bytes(BLOCK) };
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        asm!(
            // v16 to v23: results of up to eight tokens; v24 to v31: their sums of this block.
            zero_results!(),
            mask_of_group!(),
            "2:",
            "mov {at}, {x}",
            ".irp n, 24, 25, 26, 27, 28, 29, 30, 31",
            ".if \\n < 24 + {tokens}",
            "ld1 {{v\\n\\().4s}}, [{at}], {record}",
            ".endif",
            ".endr",
            "mov {parts}, #{count}",
            "add {part_x}, {x}, #16",
            "3:",
            codes_of_group!(),
            "mov {at}, {part_x}",
            "add {part_x}, {part_x}, #32",
            ".irp n, 24, 25, 26, 27, 28, 29, 30, 31",
            ".if \\n < 24 + {tokens}",
            // v0, v1: a token's activations.
            "ld1 {{v0.16b, v1.16b}}, [{at}], {record}",
            sixteen_columns!("\\n\\()", "4", "5", "6", "7", "0"),
            sixteen_columns!("\\n\\()", "8", "9", "10", "11", "1"),
            ".endif",
            ".endr",
            "subs {parts}, {parts}, #1",
            "b.ne 3b",
            // `part_x` is where the first token's numbers are now.
            params_of_group!(),
            update_tokens!(
                "0" "16" "24", "1" "17" "25", "2" "18" "26", "3" "19" "27",
                "4" "20" "28", "5" "21" "29", "6" "22" "30", "7" "23" "31"
            ),
            "add {x}, {x}, {next}",
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            store_results!(),
            x = inout(reg) tile.activations.add(first * record) => _,
            w = inout(reg) tile.weights.add(codes_at(BITS, BLOCK, group)) => _,
            p = inout(reg) tile.weights.add(tile.shape.params_at + group * if OFFSET { 16 } else { 8 }) => _,
            blocks = inout(reg) tile.shape.blocks => _,
            multipliers = in(reg) tile.weights.add(tile.shape.multipliers_at + group * 16),
            out = inout(reg) tile.out.add(first * tile.out_stride + group * 4) => _,
            stride = in(reg) tile.out_stride * 4,
            // From the last registers of one part's codes to the next part's.
            step = in(reg) part_bytes(BITS, BLOCK) - 64,
            record = in(reg) record,
            next = in(reg) all * record,
            at = out(reg) _,
            part_x = out(reg) _,
            parts = out(reg) _,
            part = const part_of(BLOCK),
            count = const BLOCK / part_of(BLOCK),
            tokens = const TOKENS,
            bits = const BITS,
            high = const HIGH as u8,
            offset = const OFFSET as u8,
            param_bytes = const PARAM_BYTES,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        );
    }
}
