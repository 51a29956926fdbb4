//! `sdot` for several tokens and blocks of up to 32 columns: four rows, with the results of up to sixteen tokens in registers.

use super::super::activations::Order;
use super::super::kernel::Tile;
use super::super::layout::{PARAM_BYTES, part_of};
use super::steps::{
    add_block, codes_of_group, mask_of_group, params_of_group, sixteen_columns, store_results,
    zero_results,
};
use super::{codes_at, part_bytes};
use core::arch::asm;

/// One block of [`many_tokens`].
macro_rules! block_of_many_tokens {
    () => {
        concat!(
            codes_of_group!(),
            params_of_group!(),
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n",
            ".if \\n < 16 + {tokens}\n",
            // v0: what the sum starts at, then the sum; v1, v2: activations; v3: d, d * Σq.
            ".if {part} == 32\n",
            "ld1 {{v0.16b-v3.16b}}, [{x}], #64\n",
            ".else\n",
            "ldr q3, [{x}, #32]\n",
            "ld1 {{v0.16b, v1.16b}}, [{x}], {record}\n",
            ".endif\n",
            sixteen_columns!("0", "4", "5", "6", "7", "1"),
            ".if {part} == 32\n",
            sixteen_columns!("0", "8", "9", "10", "11", "2"),
            ".endif\n",
            add_block!("\\n\\()", "0"),
            ".endif\n",
            ".endr\n",
        )
    };
}

/// Four rows by several tokens.
///
/// # Safety
/// As [`super::group_of_rows`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn many_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
    const HIGH: bool,
>(
    tile: &Tile<'_>,
    group: usize,
) {
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        asm!(
            // v16 to v31: results of up to sixteen tokens.
            zero_results!(),
            mask_of_group!(),
            // Two blocks at a time: of an odd number, the first time round only the second.
            "tbz {blocks}, #0, 2f",
            "add {blocks}, {blocks}, #1",
            "b 3f",
            "2:",
            block_of_many_tokens!(),
            "3:",
            block_of_many_tokens!(),
            "subs {blocks}, {blocks}, #2",
            "b.ne 2b",
            store_results!(),
            x = inout(reg) tile.activations => _,
            w = inout(reg) tile.weights.add(codes_at(BITS, BLOCK, group)) => _,
            p = inout(reg) tile.weights.add(tile.shape.params_at + group * if OFFSET { 16 } else { 8 }) => _,
            blocks = inout(reg) tile.shape.blocks => _,
            multipliers = in(reg) tile.weights.add(tile.shape.multipliers_at + group * 16),
            out = inout(reg) tile.out.add(group * 4) => _,
            stride = in(reg) tile.out_stride * 4,
            // From the last registers of one block's codes to the next block's.
            step = in(reg) part_bytes(BITS, BLOCK) - if part_of(BLOCK) == 32 { 64 } else { 0 },
            record = in(reg) Order::Started { middle: 0 }.record_bytes(BLOCK),
            tokens = const TOKENS,
            bits = const BITS,
            high = const HIGH as u8,
            part = const part_of(BLOCK),
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
