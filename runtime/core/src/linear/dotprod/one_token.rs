//! `sdot` for one token: all sixteen rows of a tile side by side.

use super::super::kernel::Tile;
use super::super::layout::{ROW_TILE, part_of};
use super::steps::sixteen_columns;
use core::arch::asm;

/// One part of a block of a pair of groups, 4-bit codes: the sums of the low rows, and those with 16 times the high rows' added.
macro_rules! pair_of_groups {
    ($low:literal, $both:literal) => {
        concat!(
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n",
            ".if {part} == 32\n",
            "ld1 {{v8.16b-v11.16b}}, [{w}], #64\n",
            ".endif\n",
            "and v24.16b, v4.16b, v31.16b\n",
            "and v25.16b, v5.16b, v31.16b\n",
            "and v26.16b, v6.16b, v31.16b\n",
            "and v27.16b, v7.16b, v31.16b\n",
            sixteen_columns!($both, "4", "5", "6", "7", "0"),
            sixteen_columns!($low, "24", "25", "26", "27", "0"),
            ".if {part} == 32\n",
            "and v24.16b, v8.16b, v31.16b\n",
            "and v25.16b, v9.16b, v31.16b\n",
            "and v26.16b, v10.16b, v31.16b\n",
            "and v27.16b, v11.16b, v31.16b\n",
            sixteen_columns!($both, "8", "9", "10", "11", "1"),
            sixteen_columns!($low, "24", "25", "26", "27", "1"),
            ".endif\n",
        )
    };
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
            ".if {bits} == 4\n",
            pair_of_groups!("20", "21"),
            pair_of_groups!("22", "23"),
            ".else\n",
            ".irp n, 20, 21, 22, 23\n",
            // v4 to v11: codes of a group, four columns of each row a register.
            "ld1 {{v4.16b-v7.16b}}, [{w}], #64\n",
            ".if {part} == 32\n",
            "ld1 {{v8.16b-v11.16b}}, [{w}], #64\n",
            ".endif\n",
            sixteen_columns!("\\n\\()", "4", "5", "6", "7", "0"),
            ".if {part} == 32\n",
            sixteen_columns!("\\n\\()", "8", "9", "10", "11", "1"),
            ".endif\n",
            ".endr\n",
            ".endif\n",
        )
    };
}

/// One block of [`one_token`].
macro_rules! block_of_one_token {
    () => {
        concat!(
            // v20 to v23: sums of this block; v0, v1: activations of a part; v2: d, d * Σq.
            "ld4r {{v20.4s-v23.4s}}, [{x}], #16\n",
            part_of_one_token!(),
            ".if {parts} > 1\n",
            part_of_one_token!(),
            ".endif\n",
            ".if {parts} > 2\n",
            part_of_one_token!(),
            part_of_one_token!(),
            ".endif\n",
            ".if {parts} > 1\n",
            "ldr q2, [{x}], #16\n",
            ".endif\n",
            // v4 to v7: scales and offsets of a group each; v8 to v11: the scales as f32, then the offsets.
            ".if {offset}\n",
            "ld1 {{v4.8h-v7.8h}}, [{p}], #64\n",
            ".else\n",
            "ld1 {{v4.4h-v7.4h}}, [{p}], #32\n",
            ".endif\n",
            "fcvtl v8.4s, v4.4h\n",
            "fcvtl v9.4s, v5.4h\n",
            "fcvtl v10.4s, v6.4h\n",
            "fcvtl v11.4s, v7.4h\n",
            ".if {bits} == 4\n",
            "sub v21.4s, v21.4s, v20.4s\n",
            "sub v23.4s, v23.4s, v22.4s\n",
            "scvtf v21.4s, v21.4s, #4\n",
            "scvtf v23.4s, v23.4s, #4\n",
            ".else\n",
            "scvtf v21.4s, v21.4s\n",
            "scvtf v23.4s, v23.4s\n",
            ".endif\n",
            "scvtf v20.4s, v20.4s\n",
            "scvtf v22.4s, v22.4s\n",
            "fmul v8.4s, v8.4s, v2.s[0]\n",
            "fmul v9.4s, v9.4s, v2.s[0]\n",
            "fmul v10.4s, v10.4s, v2.s[0]\n",
            "fmul v11.4s, v11.4s, v2.s[0]\n",
            "fmla v16.4s, v20.4s, v8.4s\n",
            "fmla v17.4s, v21.4s, v9.4s\n",
            "fmla v18.4s, v22.4s, v10.4s\n",
            "fmla v19.4s, v23.4s, v11.4s\n",
            ".if {offset}\n",
            "fcvtl2 v8.4s, v4.8h\n",
            "fcvtl2 v9.4s, v5.8h\n",
            "fcvtl2 v10.4s, v6.8h\n",
            "fcvtl2 v11.4s, v7.8h\n",
            "fmla v16.4s, v8.4s, v2.s[1]\n",
            "fmla v17.4s, v9.4s, v2.s[1]\n",
            "fmla v18.4s, v10.4s, v2.s[1]\n",
            "fmla v19.4s, v11.4s, v2.s[1]\n",
            ".endif\n",
        )
    };
}

/// One token by a run of tiles.
///
/// # Safety
/// See [`TileFn`](super::super::kernel::TileFn). The records are those of [`Order::Started`](super::Order::Started) with the middle of the format.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(in crate::linear) unsafe fn one_token<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
>(
    tile: &Tile<'_>,
) {
    let shape = *tile.shape;
    let (activations, tiles) = (tile.activations, tile.tiles);
    let (mut weights, mut out) = (tile.weights, tile.out);
    for _ in 0..tiles {
        // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
        unsafe {
            asm!(
                // v16 to v19: results of four groups of four rows.
                ".irp n, 16, 17, 18, 19",
                "movi v\\n\\().2d, #0",
                ".endr",
                "movi v31.16b, #15",
                // Two blocks at a time: of an odd number, the first time round only the second.
                "tbz {blocks}, #0, 2f",
                "add {blocks}, {blocks}, #1",
                "b 3f",
                "2:",
                block_of_one_token!(),
                "3:",
                block_of_one_token!(),
                "subs {blocks}, {blocks}, #2",
                "b.ne 2b",
                "ld1 {{v4.4s-v7.4s}}, [{multipliers}]",
                "fmul v16.4s, v16.4s, v4.4s",
                "fmul v17.4s, v17.4s, v5.4s",
                "fmul v18.4s, v18.4s, v6.4s",
                "fmul v19.4s, v19.4s, v7.4s",
                "st1 {{v16.4s-v19.4s}}, [{out}]",
                x = inout(reg) activations => _,
                w = inout(reg) weights => _,
                p = inout(reg) weights.add(shape.params_at) => _,
                blocks = inout(reg) shape.blocks => _,
                multipliers = in(reg) weights.add(shape.multipliers_at),
                out = in(reg) out,
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
        weights = weights.wrapping_add(shape.bytes);
        out = out.wrapping_add(ROW_TILE);
    }
}
