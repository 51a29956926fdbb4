//! AArch64 with `sdot`: four rows in the lanes of one register, four columns at a time.
//!
//! The activations of four columns are one lane of a register, chosen by the instruction, so nothing is
//! copied about, and a record brings what the sums start at. One token takes the four groups of four rows of a tile side
//! by side, which shares its record; more tokens take them one after the other, with the sums of up to sixteen
//! tokens in registers, which shares the unpacked weights.
//!
//! The loops are assembler: stable Rust has no intrinsic for `sdot`, and of the 32 registers 31 are taken, which the compiler
//! would spill. `.if` chooses between formats when the program is built, `.irp` writes a line out for each register.

mod parts;

use super::activations::Order;
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, part_of};
use super::neon::dense_tile;
use core::arch::asm;

implementations! {
    quantised: "neon-dotprod",
    dense: "neon",
    Interleave::of(crate::IsaKind::NeonDotprod),
    Order::Started { middle: if BITS == 4 { 8 } else { 0 } },
    tokens: [16, 8, 4, 2, 1],
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS == 1 {
            one_token::<BITS, BLOCK, OFFSET>(tile);
        } else {
            // A copy stays in registers: for all the compiler knows, the assembler changes what lies in memory.
            let shape = *tile.shape;
            let tile = Tile {
                shape: &shape,
                ..*tile
            };
            for group in 0..4 {
                if BLOCK > part_of(BLOCK) {
                    parts::many_tokens::<BITS, BLOCK, OFFSET, TOKENS>(&tile, group);
                } else {
                    many_tokens::<BITS, BLOCK, OFFSET, TOKENS>(&tile, group);
                }
            }
        }
    }
}

/// One part of a block of [`one_token`].
macro_rules! part_of_one_token {
    () => {
        concat!(
            ".if {parts} > 1\n",
            "ld1 {{v0.16b, v1.16b}}, [{x}], #32\n",
            ".elseif {part} == 32\n",
            "ld1 {{v0.16b-v2.16b}}, [{x}], #48\n",
            ".else\n",
            "ldr q2, [{x}, #16]\n",
            "ldr q0, [{x}], #32\n",
            ".endif\n",
            ".irp n, 20, 21, 22, 23\n",
            // v4 to v11: codes of a group, four columns of each row a register.
            ".if {bits} == 8\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n",
            ".if {part} == 32\n",
            "ld1 {{v8.16b-v11.16b}}, [{w}], #64\n",
            ".endif\n",
            ".elseif {part} == 32\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n",
            "ushr v8.16b, v4.16b, #4\n",
            "ushr v9.16b, v5.16b, #4\n",
            "ushr v10.16b, v6.16b, #4\n",
            "ushr v11.16b, v7.16b, #4\n",
            "and v4.16b, v4.16b, v31.16b\n",
            "and v5.16b, v5.16b, v31.16b\n",
            "and v6.16b, v6.16b, v31.16b\n",
            "and v7.16b, v7.16b, v31.16b\n",
            ".else\n",
            "ld1 {{v4.16b, v5.16b}}, [{w}], #32\n",
            "ushr v6.16b, v4.16b, #4\n",
            "ushr v7.16b, v5.16b, #4\n",
            "and v4.16b, v4.16b, v31.16b\n",
            "and v5.16b, v5.16b, v31.16b\n",
            ".endif\n",
            "sdot v\\n\\().4s, v4.16b, v0.4b[0]\n",
            "sdot v\\n\\().4s, v5.16b, v0.4b[1]\n",
            "sdot v\\n\\().4s, v6.16b, v0.4b[2]\n",
            "sdot v\\n\\().4s, v7.16b, v0.4b[3]\n",
            ".if {part} == 32\n",
            "sdot v\\n\\().4s, v8.16b, v1.4b[0]\n",
            "sdot v\\n\\().4s, v9.16b, v1.4b[1]\n",
            "sdot v\\n\\().4s, v10.16b, v1.4b[2]\n",
            "sdot v\\n\\().4s, v11.16b, v1.4b[3]\n",
            ".endif\n",
            ".endr\n",
        )
    };
}

/// # Safety
/// See [`super::kernel::TileFn`]. The records are those of [`Order::Started`] with the middle of the format.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn one_token<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(
    tile: &Tile<'_>,
) {
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        asm!(
            // v16 to v19: results of four groups of four rows.
            ".irp n, 16, 17, 18, 19",
            "movi v\\n\\().2d, #0",
            ".endr",
            "movi v31.16b, #15",
            "2:",
            // v20 to v23: their sums of this block; v0, v1: activations of a part; v2: d, d * Σq.
            "ld4r {{v20.4s-v23.4s}}, [{x}], #16",
            part_of_one_token!(),
            ".if {parts} > 1",
            part_of_one_token!(),
            ".endif",
            ".if {parts} > 2",
            part_of_one_token!(),
            part_of_one_token!(),
            ".endif",
            ".if {parts} > 1",
            "ldr q2, [{x}], #16",
            ".endif",
            // v4 to v7: scales and offsets of a group each; v8 to v11: the scales as f32, then the offsets.
            ".if {offset}",
            "ld1 {{v4.8h-v7.8h}}, [{p}], #64",
            ".else",
            "ld1 {{v4.4h-v7.4h}}, [{p}], #32",
            ".endif",
            "fcvtl v8.4s, v4.4h",
            "fcvtl v9.4s, v5.4h",
            "fcvtl v10.4s, v6.4h",
            "fcvtl v11.4s, v7.4h",
            "scvtf v20.4s, v20.4s",
            "scvtf v21.4s, v21.4s",
            "scvtf v22.4s, v22.4s",
            "scvtf v23.4s, v23.4s",
            "fmul v8.4s, v8.4s, v2.s[0]",
            "fmul v9.4s, v9.4s, v2.s[0]",
            "fmul v10.4s, v10.4s, v2.s[0]",
            "fmul v11.4s, v11.4s, v2.s[0]",
            "fmla v16.4s, v20.4s, v8.4s",
            "fmla v17.4s, v21.4s, v9.4s",
            "fmla v18.4s, v22.4s, v10.4s",
            "fmla v19.4s, v23.4s, v11.4s",
            ".if {offset}",
            "fcvtl2 v8.4s, v4.8h",
            "fcvtl2 v9.4s, v5.8h",
            "fcvtl2 v10.4s, v6.8h",
            "fcvtl2 v11.4s, v7.8h",
            "fmla v16.4s, v8.4s, v2.s[1]",
            "fmla v17.4s, v9.4s, v2.s[1]",
            "fmla v18.4s, v10.4s, v2.s[1]",
            "fmla v19.4s, v11.4s, v2.s[1]",
            ".endif",
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            "ld1 {{v4.4s-v7.4s}}, [{multipliers}]",
            "fmul v16.4s, v16.4s, v4.4s",
            "fmul v17.4s, v17.4s, v5.4s",
            "fmul v18.4s, v18.4s, v6.4s",
            "fmul v19.4s, v19.4s, v7.4s",
            "st1 {{v16.4s-v19.4s}}, [{out}]",
            x = inout(reg) tile.activations => _,
            w = inout(reg) tile.weights => _,
            p = inout(reg) tile.weights.add(tile.shape.params_at) => _,
            blocks = inout(reg) tile.shape.blocks => _,
            multipliers = in(reg) tile.weights.add(tile.shape.multipliers_at),
            out = in(reg) tile.out,
            bits = const BITS,
            part = const part_of(BLOCK),
            parts = const BLOCK / part_of(BLOCK),
            offset = const OFFSET as u8,
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

/// One block of [`many_tokens`].
macro_rules! block_of_many_tokens {
    () => {
        concat!(
            // v4 to v11: codes, four columns of each row a register; v12, v13: scales and offsets.
            ".if {bits} == 8 && {block} == 32\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n",
            "ld1 {{v8.16b-v11.16b}}, [{w}], {step}\n",
            ".elseif {bits} == 8\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}\n",
            ".elseif {block} == 32\n",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}\n",
            "ushr v8.16b, v4.16b, #4\n",
            "ushr v9.16b, v5.16b, #4\n",
            "ushr v10.16b, v6.16b, #4\n",
            "ushr v11.16b, v7.16b, #4\n",
            "and v4.16b, v4.16b, v14.16b\n",
            "and v5.16b, v5.16b, v14.16b\n",
            "and v6.16b, v6.16b, v14.16b\n",
            "and v7.16b, v7.16b, v14.16b\n",
            ".else\n",
            "ld1 {{v4.16b, v5.16b}}, [{w}], {step}\n",
            "ushr v6.16b, v4.16b, #4\n",
            "ushr v7.16b, v5.16b, #4\n",
            "and v4.16b, v4.16b, v14.16b\n",
            "and v5.16b, v5.16b, v14.16b\n",
            ".endif\n",
            ".if {offset}\n",
            "ldr q13, [{p}], #2 * {param_bytes}\n",
            "fcvtl v12.4s, v13.4h\n",
            "fcvtl2 v13.4s, v13.8h\n",
            ".else\n",
            "ldr d12, [{p}], #{param_bytes}\n",
            "fcvtl v12.4s, v12.4h\n",
            ".endif\n",
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n",
            ".if \\n < 16 + {tokens}\n",
            // v0: what the sum starts at, then the sum; v1, v2: activations; v3: d, d * Σq.
            ".if {block} == 32\n",
            "ld1 {{v0.16b-v3.16b}}, [{x}], #64\n",
            ".else\n",
            "ldr q3, [{x}, #32]\n",
            "ld1 {{v0.16b, v1.16b}}, [{x}], {record}\n",
            ".endif\n",
            "sdot v0.4s, v4.16b, v1.4b[0]\n",
            "sdot v0.4s, v5.16b, v1.4b[1]\n",
            "sdot v0.4s, v6.16b, v1.4b[2]\n",
            "sdot v0.4s, v7.16b, v1.4b[3]\n",
            ".if {block} == 32\n",
            "sdot v0.4s, v8.16b, v2.4b[0]\n",
            "sdot v0.4s, v9.16b, v2.4b[1]\n",
            "sdot v0.4s, v10.16b, v2.4b[2]\n",
            "sdot v0.4s, v11.16b, v2.4b[3]\n",
            ".endif\n",
            "scvtf v0.4s, v0.4s\n",
            "fmul v15.4s, v12.4s, v3.s[0]\n",
            "fmla v\\n\\().4s, v0.4s, v15.4s\n",
            ".if {offset}\n",
            "fmla v\\n\\().4s, v13.4s, v3.s[1]\n",
            ".endif\n",
            ".endif\n",
            ".endr\n",
        )
    };
}

/// # Safety
/// See [`super::kernel::TileFn`]; `group` is below 4, `TOKENS` at most 16.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn many_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
    group: usize,
) {
    let group_bytes = BLOCK * BITS as usize / 2;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        asm!(
            // v16 to v31: results of up to sixteen tokens.
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            ".if \\n < 16 + {tokens}",
            "movi v\\n\\().2d, #0",
            ".endif",
            ".endr",
            "movi v14.16b, #15",
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
            "ldr q0, [{multipliers}]",
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            ".if \\n < 16 + {tokens}",
            "fmul v\\n\\().4s, v\\n\\().4s, v0.4s",
            "st1 {{v\\n\\().4s}}, [{out}], {stride}",
            ".endif",
            ".endr",
            x = inout(reg) tile.activations => _,
            w = inout(reg) tile.weights.add(group * group_bytes) => _,
            p = inout(reg) tile.weights.add(tile.shape.params_at + group * if OFFSET { 16 } else { 8 }) => _,
            blocks = inout(reg) tile.shape.blocks => _,
            multipliers = in(reg) tile.weights.add(tile.shape.multipliers_at + group * 16),
            out = inout(reg) tile.out.add(group * 4) => _,
            stride = in(reg) tile.out_stride * 4,
            // From the last registers of one block's codes to the next block's.
            step = in(reg) if BITS == 8 && BLOCK == 32 { 4 * group_bytes - 64 } else { 4 * group_bytes },
            record = in(reg) Order::Started { middle: 0 }.record_bytes(BLOCK),
            tokens = const TOKENS,
            bits = const BITS,
            block = const BLOCK,
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
