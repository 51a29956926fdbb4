//! What the assembler of the Cortex-M kernels works on. [`arm_dsp`](super::arm_dsp) and [`helium`](super::helium) go through a tile by
//! groups of rows, for each of which nearly all registers are taken by sums. So what leads from one group to the next lies in memory,
//! ready to be loaded by one instruction: a ring of [`Turn`]s.

use super::kernel::Tile;
use super::layout::ROW_TILE;

/// What is loaded after a group of rows, by its offsets. Differences may be negative.
#[repr(C)]
pub(super) struct Turn {
    /// Where the records start.
    x: *const u8,
    /// From where the group's weights end to where those of the next group start.
    weights: usize,
    /// The same of their parameters.
    params: usize,
    /// To the group's multipliers: from where its parameters end for one token, from its results for two.
    multipliers: usize,
    /// Where the results of the last group end.
    out_end: *const f32,
    next: *const Turn,
    /// From the first token's results to the second's.
    second_out: usize,
}

/// From a group to the next, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Distance {
    pub weights: usize,
    pub params: usize,
}

impl Turn {
    /// To a group of the same tile at a distance from this one.
    #[inline(always)]
    pub(super) fn within(tile: &Tile<'_>, distance: Distance, multipliers: usize) -> Turn {
        let shape = tile.shape;
        // A group goes over the codes of the whole tile, and then over all parameters.
        Turn {
            x: tile.activations,
            weights: distance.weights.wrapping_sub(shape.params_at),
            params: distance
                .params
                .wrapping_sub(shape.multipliers_at.wrapping_sub(shape.params_at)),
            multipliers,
            out_end: tile.out.wrapping_add(tile.tiles * ROW_TILE),
            next: core::ptr::null(),
            second_out: tile.out_stride * size_of::<f32>(),
        }
    }

    /// To the first group of the next tile, from one at a distance from the tile's first.
    #[inline(always)]
    pub(super) fn to_next_tile(tile: &Tile<'_>, distance: Distance, multipliers: usize) -> Turn {
        let back = Distance {
            weights: tile.shape.bytes.wrapping_sub(distance.weights),
            params: tile.shape.bytes.wrapping_sub(distance.params),
        };
        Turn::within(tile, back, multipliers)
    }

    /// Over the halves of groups, where a call takes half a group's rows: `half` on to the second, and so far again that it is `whole`.
    #[inline(always)]
    pub(super) fn by_halves(tile: &Tile<'_>, half: Distance, whole: Distance) -> [Turn; 2] {
        let other_half = Distance {
            weights: whole.weights - half.weights,
            params: whole.params - half.params,
        };
        let multipliers = out_to_multipliers(tile);
        [
            Turn::within(tile, half, multipliers),
            Turn::within(tile, other_half, multipliers),
        ]
    }
}

/// Makes each turn lead to the next and the last to the first, which is given. It holds as long as the turns stay where they are.
#[inline(always)]
pub(super) fn ring<const N: usize>(turns: &mut [Turn; N]) -> *const Turn {
    let first = turns.as_mut_ptr();
    crate::vector::unrolled!(i < N, at most 4, {
        let next = first.wrapping_add((i + 1) % N);
        if let Some(turn) = turns.get_mut(i) {
            turn.next = next;
        }
    });
    first
}

/// The records' end, when they have `record_bytes` a block.
///
/// # Safety
/// See [`TileFn`](super::kernel::TileFn).
#[inline(always)]
pub(super) unsafe fn records_end(tile: &Tile<'_>, record_bytes: usize) -> *const u8 {
    // SAFETY: there are so many, by the shape.
    unsafe { tile.activations.add(tile.shape.blocks * record_bytes) }
}

/// The parameters of a tile's first group.
///
/// # Safety
/// See [`TileFn`](super::kernel::TileFn).
#[inline(always)]
pub(super) unsafe fn params(tile: &Tile<'_>) -> *const u8 {
    // SAFETY: they lie in the tile, by the shape.
    unsafe { tile.weights.add(tile.shape.params_at) }
}

/// From a group's results to its multipliers, where there is one tile and they go on alike.
#[inline(always)]
fn out_to_multipliers(tile: &Tile<'_>) -> usize {
    let multipliers = tile.weights.addr().wrapping_add(tile.shape.multipliers_at);
    multipliers.wrapping_sub(tile.out.addr())
}
