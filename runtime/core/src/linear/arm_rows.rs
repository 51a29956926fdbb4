//! What the assembler of the Cortex-M kernels works on: pointers that walk over groups of rows. [`arm_dsp`](super::arm_dsp) and
//! [`helium`](super::helium) read the same fields and move them alike.

use super::kernel::Tile;

/// The fields are read by their offsets.
#[repr(C)]
pub(super) struct Rows {
    x: *const u8,
    weights: *const u8,
    params: *const u8,
    /// Where the records end.
    x_end: *const u8,
    multipliers: *const u8,
    out: *mut f32,
    /// Groups of rows that are left.
    groups: usize,
    /// Bytes of activations in a block.
    code_bytes: usize,
    /// The second token's results.
    second_out: *mut f32,
    /// From one tile to the next.
    tile_bytes: usize,
    /// From one block's parameters to the next: twice as many where there are offsets.
    params_bytes: usize,
}

impl Rows {
    /// At the start of a tile. A block's records have `record_bytes` for all tokens of the group, of which the assembler reads
    /// `code_bytes` as activations at a time; a tile has `groups` groups of rows.
    ///
    /// # Safety
    /// As [`TileFn`](super::kernel::TileFn).
    pub(super) unsafe fn of(
        tile: &Tile<'_>,
        record_bytes: usize,
        code_bytes: usize,
        groups: usize,
    ) -> Rows {
        let shape = tile.shape;
        // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
        unsafe {
            Rows {
                x: tile.activations,
                weights: tile.weights,
                params: tile.weights.add(shape.params_at),
                x_end: tile.activations.add(shape.blocks * record_bytes),
                multipliers: tile.weights.add(shape.multipliers_at),
                out: tile.out,
                // More than one tile only for one token.
                groups: groups * tile.tiles,
                code_bytes,
                second_out: tile.out.wrapping_add(tile.out_stride),
                tile_bytes: shape.bytes,
                params_bytes: shape.params_bytes,
            }
        }
    }
}
