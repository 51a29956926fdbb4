//! AArch64 with `smmla`: two rows by two tokens, eight columns at a time.
//!
//! One instruction does 32 multiply-accumulates: codes of two rows × eight columns by activations of two tokens ×
//! eight columns, and the sums stay two by two until the end. Weights lie as `sdot` wants them, four rows × four
//! columns, and are turned into pairs of rows once for all tokens of a group, so that one token alone takes the very code
//! that suits it best, the `sdot` kernel's.
//!
//! Assembler for the reasons given there.

use super::activations::Order;
use super::dotprod::one_token;
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES};
use super::neon::dense_tile;
use core::arch::asm;

implementations! {
    quantised: "neon-i8mm",
    dense: "neon",
    Interleave::of(crate::IsaKind::NeonI8mm),
    Order::StartedPairs { middle: if BITS == 4 { 8 } else { 0 } },
    tokens: [12, 8, 4, 2, 1],
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon,dotprod,i8mm")]
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
                token_pairs::<BITS, BLOCK, OFFSET, TOKENS>(&tile, group);
            }
        }
    }
}

/// # Safety
/// See [`super::kernel::TileFn`]; `TOKENS` is even and at most 12, and `group` below 4.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn token_pairs<
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
            // v10 to v15: of each pair of tokens a, b rows [0a, 0b, 1a, 1b]; v20 to v25: rows [2a, 2b, 3a, 3b].
            ".irp n, 0, 1, 2, 3, 4, 5",
            ".if 2 * \\n < {tokens}",
            "movi v1\\n\\().2d, #0",
            "movi v2\\n\\().2d, #0",
            ".endif",
            ".endr",
            "2:",
            // v16, v17: eight columns of the first two rows and of the last two; v18, v19, then v26 to v29: the next.
            ".if {bits} == 8",
            ".if {block} == 32",
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64",
            ".else",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}",
            ".endif",
            "zip1 v16.4s, v4.4s, v5.4s",
            "zip2 v17.4s, v4.4s, v5.4s",
            "zip1 v18.4s, v6.4s, v7.4s",
            "zip2 v19.4s, v6.4s, v7.4s",
            ".if {block} == 32",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}",
            "zip1 v26.4s, v4.4s, v5.4s",
            "zip2 v27.4s, v4.4s, v5.4s",
            "zip1 v28.4s, v6.4s, v7.4s",
            "zip2 v29.4s, v6.4s, v7.4s",
            ".endif",
            ".elseif {block} == 32",
            "movi v0.16b, #15",
            "ld1 {{v4.16b-v7.16b}}, [{w}], {step}",
            "zip1 v26.4s, v4.4s, v5.4s",
            "zip2 v27.4s, v4.4s, v5.4s",
            "zip1 v28.4s, v6.4s, v7.4s",
            "zip2 v29.4s, v6.4s, v7.4s",
            "and v16.16b, v26.16b, v0.16b",
            "and v17.16b, v27.16b, v0.16b",
            "and v18.16b, v28.16b, v0.16b",
            "and v19.16b, v29.16b, v0.16b",
            "ushr v26.16b, v26.16b, #4",
            "ushr v27.16b, v27.16b, #4",
            "ushr v28.16b, v28.16b, #4",
            "ushr v29.16b, v29.16b, #4",
            ".else",
            "movi v0.16b, #15",
            "ld1 {{v4.16b, v5.16b}}, [{w}], {step}",
            "zip1 v18.4s, v4.4s, v5.4s",
            "zip2 v19.4s, v4.4s, v5.4s",
            "and v16.16b, v18.16b, v0.16b",
            "and v17.16b, v19.16b, v0.16b",
            "ushr v18.16b, v18.16b, #4",
            "ushr v19.16b, v19.16b, #4",
            ".endif",
            // v30, v31: scales of rows [0, 0, 1, 1] and [2, 2, 3, 3]; v8, v9: offsets.
            ".if {offset}",
            "ldr q8, [{p}], #2 * {param_bytes}",
            "fcvtl v30.4s, v8.4h",
            "fcvtl2 v8.4s, v8.8h",
            "zip2 v9.4s, v8.4s, v8.4s",
            "zip1 v8.4s, v8.4s, v8.4s",
            ".else",
            "ldr d30, [{p}], #{param_bytes}",
            "fcvtl v30.4s, v30.4h",
            ".endif",
            "zip2 v31.4s, v30.4s, v30.4s",
            "zip1 v30.4s, v30.4s, v30.4s",
            ".irp n, 0, 1, 2, 3, 4, 5",
            ".if 2 * \\n < {tokens}",
            // v0, v1: what the sums start at, then the sums; v2: d; v3: d * Σq; v4 to v7: activations.
            "ld1 {{v0.16b-v3.16b}}, [{x}], #64",
            ".if {block} == 32",
            "ld1 {{v4.16b-v7.16b}}, [{x}], #64",
            ".else",
            "ld1 {{v4.16b, v5.16b}}, [{x}], #32",
            ".endif",
            "smmla v0.4s, v16.16b, v4.16b",
            "smmla v1.4s, v17.16b, v4.16b",
            "smmla v0.4s, v18.16b, v5.16b",
            "smmla v1.4s, v19.16b, v5.16b",
            ".if {block} == 32",
            "smmla v0.4s, v26.16b, v6.16b",
            "smmla v1.4s, v27.16b, v6.16b",
            "smmla v0.4s, v28.16b, v7.16b",
            "smmla v1.4s, v29.16b, v7.16b",
            ".endif",
            "scvtf v0.4s, v0.4s",
            "scvtf v1.4s, v1.4s",
            "fmul v4.4s, v30.4s, v2.4s",
            "fmul v5.4s, v31.4s, v2.4s",
            "fmla v1\\n\\().4s, v0.4s, v4.4s",
            "fmla v2\\n\\().4s, v1.4s, v5.4s",
            ".if {offset}",
            "fmla v1\\n\\().4s, v8.4s, v3.4s",
            "fmla v2\\n\\().4s, v9.4s, v3.4s",
            ".endif",
            ".endif",
            ".endr",
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            "ldr q0, [{multipliers}]",
            ".irp n, 0, 1, 2, 3, 4, 5",
            ".if 2 * \\n < {tokens}",
            "uzp1 v1.4s, v1\\n\\().4s, v2\\n\\().4s",
            "uzp2 v2.4s, v1\\n\\().4s, v2\\n\\().4s",
            "fmul v1.4s, v1.4s, v0.4s",
            "fmul v2.4s, v2.4s, v0.4s",
            "st1 {{v1.4s}}, [{out}], {stride}",
            "st1 {{v2.4s}}, [{out}], {stride}",
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
