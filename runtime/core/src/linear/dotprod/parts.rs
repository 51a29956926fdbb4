//! `sdot` for several tokens and blocks of 64 or 128 columns.
//!
//! The sum of a block runs over its parts of 32 columns, so it must wait in a register for each token beside the token's
//! result: eight tokens at a time.

use super::super::activations::Order;
use super::super::kernel::Tile;
use super::super::layout::{PARAM_BYTES, part_of};
use core::arch::asm;

/// [`super::many_tokens`] for blocks of more than one part.
///
/// # Safety
/// See [`super::super::kernel::TileFn`]; `group` is below 4, `TOKENS` at most 16.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn many_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
    group: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS > 8 {
            some_tokens::<BITS, BLOCK, OFFSET, 8>(tile, group, TOKENS, 0);
            some_tokens::<BITS, BLOCK, OFFSET, 8>(tile, group, TOKENS, 8);
        } else {
            some_tokens::<BITS, BLOCK, OFFSET, TOKENS>(tile, group, TOKENS, 0);
        }
    }
}

/// Adds the block to the results: for each token its number, and the registers of its result and its sum.
macro_rules! update_tokens {
    ($($token:literal $result:literal $sum:literal),+) => {
        concat!($(
            ".if ", $token, " < {tokens}\n",
            // v3: d, d * Σq.
            "ld1 {{v3.4s}}, [{part}], {record}\n",
            "scvtf v", $sum, ".4s, v", $sum, ".4s\n",
            "fmul v15.4s, v12.4s, v3.s[0]\n",
            "fmla v", $result, ".4s, v", $sum, ".4s, v15.4s\n",
            ".if {offset}\n",
            "fmla v", $result, ".4s, v13.4s, v3.s[1]\n",
            ".endif\n",
            ".endif\n",
        )+)
    };
}

/// `TOKENS` of a group of `all` tokens, from `first` on.
///
/// # Safety
/// As [`many_tokens`]; `TOKENS` is at most 8, `first + TOKENS` at most `all`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn some_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
    group: usize,
    all: usize,
    first: usize,
) {
    let record = const { Order::Started { middle: 0 }.record_bytes(BLOCK) };
    let group_bytes = part_of(BLOCK) * BITS as usize / 2;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        asm!(
            // v16 to v23: results of up to eight tokens; v24 to v31: their sums of this block.
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23",
            ".if \\n < 16 + {tokens}",
            "movi v\\n\\().2d, #0",
            ".endif",
            ".endr",
            "movi v14.16b, #15",
            "2:",
            "mov {at}, {x}",
            ".irp n, 24, 25, 26, 27, 28, 29, 30, 31",
            ".if \\n < 24 + {tokens}",
            "ld1 {{v\\n\\().4s}}, [{at}], {record}",
            ".endif",
            ".endr",
            "mov {parts}, #{count}",
            "add {part}, {x}, #16",
            "3:",
            // v4 to v11: codes of a part, four columns of each row a register.
            ".if {bits} == 8",
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64",
            "ld1 {{v8.16b-v11.16b}}, [{w}], {step}",
            ".else",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}",
            "ushr v8.16b, v4.16b, #4",
            "ushr v9.16b, v5.16b, #4",
            "ushr v10.16b, v6.16b, #4",
            "ushr v11.16b, v7.16b, #4",
            "and v4.16b, v4.16b, v14.16b",
            "and v5.16b, v5.16b, v14.16b",
            "and v6.16b, v6.16b, v14.16b",
            "and v7.16b, v7.16b, v14.16b",
            ".endif",
            "mov {at}, {part}",
            "add {part}, {part}, #32",
            ".irp n, 24, 25, 26, 27, 28, 29, 30, 31",
            ".if \\n < 24 + {tokens}",
            // v0, v1: a token's activations.
            "ld1 {{v0.16b, v1.16b}}, [{at}], {record}",
            "sdot v\\n\\().4s, v4.16b, v0.4b[0]",
            "sdot v\\n\\().4s, v5.16b, v0.4b[1]",
            "sdot v\\n\\().4s, v6.16b, v0.4b[2]",
            "sdot v\\n\\().4s, v7.16b, v0.4b[3]",
            "sdot v\\n\\().4s, v8.16b, v1.4b[0]",
            "sdot v\\n\\().4s, v9.16b, v1.4b[1]",
            "sdot v\\n\\().4s, v10.16b, v1.4b[2]",
            "sdot v\\n\\().4s, v11.16b, v1.4b[3]",
            ".endif",
            ".endr",
            "subs {parts}, {parts}, #1",
            "b.ne 3b",
            // v12, v13: scales and offsets; `part` is where the first token's numbers are.
            ".if {offset}",
            "ldr q13, [{p}], #2 * {param_bytes}",
            "fcvtl v12.4s, v13.4h",
            "fcvtl2 v13.4s, v13.8h",
            ".else",
            "ldr d12, [{p}], #{param_bytes}",
            "fcvtl v12.4s, v12.4h",
            ".endif",
            update_tokens!(
                "0" "16" "24", "1" "17" "25", "2" "18" "26", "3" "19" "27",
                "4" "20" "28", "5" "21" "29", "6" "22" "30", "7" "23" "31"
            ),
            "add {x}, {x}, {next}",
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            "ldr q0, [{multipliers}]",
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23",
            ".if \\n < 16 + {tokens}",
            "fmul v\\n\\().4s, v\\n\\().4s, v0.4s",
            "st1 {{v\\n\\().4s}}, [{out}], {stride}",
            ".endif",
            ".endr",
            x = inout(reg) tile.activations.add(first * record) => _,
            w = inout(reg) tile.weights.add(group * group_bytes) => _,
            p = inout(reg) tile.weights.add(tile.shape.params_at + group * if OFFSET { 16 } else { 8 }) => _,
            blocks = inout(reg) tile.shape.blocks => _,
            multipliers = in(reg) tile.weights.add(tile.shape.multipliers_at + group * 16),
            out = inout(reg) tile.out.add(first * tile.out_stride + group * 4) => _,
            stride = in(reg) tile.out_stride * 4,
            // From the last registers of one part's codes to the next part's.
            step = in(reg) if BITS == 8 { 4 * group_bytes - 64 } else { 4 * group_bytes },
            record = in(reg) record,
            next = in(reg) all * record,
            at = out(reg) _,
            part = out(reg) _,
            parts = out(reg) _,
            count = const BLOCK / part_of(BLOCK),
            tokens = const TOKENS,
            bits = const BITS,
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
