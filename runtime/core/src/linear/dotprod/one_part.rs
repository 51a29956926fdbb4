//! `sdot` for several tokens and blocks of up to 32 columns: four rows, with the results of up to sixteen tokens in registers.

use super::super::activations::Order;
use super::super::kernel::Tile;
use super::super::layout::{PARAM_BYTES, part_of};
use super::super::panel::{self, FILL, NONE, Part, READ};
use super::part_bytes;
use super::steps::{
    add_block, codes_of_group, each_token, mask_of_group, params_of_group, sixteen_columns,
    store_results, zero_results,
};
use core::arch::asm;
use core::ptr;

panel::many_tokens!(features: "neon,dotprod", some_tokens, tokens: [16, 8, 4, 2]);

/// Keeps a block's codes, scales and offsets in the panel.
macro_rules! keep_unpacked {
    () => {
        concat!(
            "st1 {{v4.16b-v7.16b}}, [{panel}], #64\n",
            ".if {part} == 32\n",
            "st1 {{v8.16b-v11.16b}}, [{panel}], #64\n",
            ".endif\n",
            ".if {offset}\n",
            "st1 {{v12.4s, v13.4s}}, [{panel}], #32\n",
            ".else\n",
            "st1 {{v12.4s}}, [{panel}], #16\n",
            ".endif\n",
        )
    };
}

/// Loads what [`keep_unpacked`] kept.
macro_rules! load_unpacked {
    () => {
        concat!(
            "ld1 {{v4.16b-v7.16b}}, [{panel}], #64\n",
            ".if {part} == 32\n",
            "ld1 {{v8.16b-v11.16b}}, [{panel}], #64\n",
            ".endif\n",
            ".if {offset}\n",
            "ld1 {{v12.4s, v13.4s}}, [{panel}], #32\n",
            ".else\n",
            "ld1 {{v12.4s}}, [{panel}], #16\n",
            ".endif\n",
        )
    };
}

/// One block of [`some_tokens`].
macro_rules! block_of_many_tokens {
    () => {
        concat!(
            ".if {read}\n",
            load_unpacked!(),
            ".else\n",
            codes_of_group!(),
            params_of_group!(),
            ".if {fill}\n",
            keep_unpacked!(),
            ".endif\n",
            ".endif\n",
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

/// Four rows by `TOKENS` tokens, without a panel.
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
    let whole = Part {
        tile,
        first_block: 0,
        blocks: tile.shape.blocks,
    };
    // SAFETY: the caller's promise.
    unsafe {
        some_tokens::<BITS, BLOCK, OFFSET, HIGH, TOKENS, NONE>(&whole, group, 0, ptr::null_mut());
    }
}

/// Four rows of a part by a group of `TOKENS` tokens, from token `first` on.
///
/// # Safety
/// As [`token_groups`], `panel` is not used if `PANEL` is [`NONE`]; `TOKENS` is at most 16, and the group is there.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn some_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const HIGH: bool,
    const TOKENS: usize,
    const PANEL: u8,
>(
    part: &Part<'_>,
    group: usize,
    first: usize,
    panel: *mut u8,
) {
    let record = const { Order::Started { middle: 0 }.record_bytes(BLOCK) };
    // SAFETY: all addresses are within the tile, the panel, the activations and the output, by the shape.
    unsafe {
        let places = part.places::<BITS, BLOCK, OFFSET>(group, first, TOKENS, record);
        asm!(
            // v16 to v31: results of up to sixteen tokens.
            "cbnz {begun}, 4f",
            zero_results!(),
            "b 5f",
            "4:",
            "mov {from}, {out}",
            each_token!("ld1 {{v\\n\\().4s}}, [{from}], {stride}\n"),
            "5:",
            ".if {read} == 0",
            mask_of_group!(),
            ".endif",
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
            x = inout(reg) places.activations => _,
            w = inout(reg) places.codes => _,
            p = inout(reg) places.params => _,
            panel = inout(reg) panel => _,
            blocks = inout(reg) part.blocks => _,
            begun = in(reg) part.first_block,
            multipliers = in(reg) places.multipliers,
            out = inout(reg) places.out => _,
            from = out(reg) _,
            stride = in(reg) part.tile.out_stride * 4,
            // From the last registers of one block's codes to the next block's.
            step = in(reg) part_bytes(BITS, BLOCK) - if part_of(BLOCK) == 32 { 64 } else { 0 },
            record = in(reg) record,
            tokens = const TOKENS,
            bits = const BITS,
            high = const HIGH as u8,
            fill = const (PANEL == FILL) as u8,
            read = const (PANEL == READ) as u8,
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
