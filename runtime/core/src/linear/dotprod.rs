//! AArch64 with `sdot`: four rows in the lanes of one register, four columns at a time.
//!
//! The activations of four columns are one lane of a register, chosen by the instruction, so nothing is
//! copied about, and a record brings what the sums start at. One token takes the four groups of four rows of a tile side
//! by side, which shares its record; more tokens take them one after the other, with the sums of up to sixteen
//! tokens in registers, which shares the unpacked weights, and further groups of tokens find these in a [panel](super::panel).
//!
//! Two groups of rows share the bytes of 4-bit codes ([`Nibbles::Rows`](super::layout::Nibbles::Rows)). One token multiplies the
//! bytes as they are and once more without the high codes: the difference of both sums is 16 times that of the high
//! rows, which spares unpacking these. For more tokens a high code stays where it is, over a low one of 8: sums of such bytes
//! are 16 times those of the codes and start at what those of low codes do. `scvtf` divides by 16 on its way.
//!
//! The loops are assembler: stable Rust has no intrinsic for `sdot`, and of the 32 registers 31 are taken, which the compiler
//! would spill. `.if` chooses between formats when the program is built, `.irp` writes a line out for each register.

mod one_part;
mod one_token;
mod parts;
mod steps;

pub(super) use one_token::one_token;

use super::activations::Order;
use super::kernel::{Tile, TileFn, implementations};
use super::layout::{Interleave, part_of};
use super::neon::dense_tile;

implementations! {
    quantised: "neon-dotprod",
    dense: "neon",
    Interleave::of(crate::IsaKind::NeonDotprod),
    Order::Started { middle: if BITS == 4 { 8 } else { 0 } },
    tokens: [16, 8, 4, 2, 1],
    takes_runs: true,
    all_groups: all_groups,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn block_tile<
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
                if BITS == 4 && group % 2 == 1 {
                    group_of_rows::<BITS, BLOCK, OFFSET, TOKENS, true>(&tile, group);
                } else {
                    group_of_rows::<BITS, BLOCK, OFFSET, TOKENS, false>(&tile, group);
                }
            }
        }
    }
}

/// Four rows by several tokens. `HIGH` where their codes are the high ones of their bytes.
///
/// # Safety
/// See [`super::kernel::TileFn`]; `group` is below 4, `TOKENS` at most 16.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn group_of_rows<
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
        if BLOCK > part_of(BLOCK) {
            parts::several_tokens::<BITS, BLOCK, OFFSET, TOKENS, HIGH>(tile, group);
        } else {
            one_part::several_tokens::<BITS, BLOCK, OFFSET, TOKENS, HIGH>(tile, group);
        }
    }
}

/// Codes of 8 bits need no unpacking, and the sums of large blocks leave no registers.
const fn all_groups<const BITS: u8, const BLOCK: usize, const OFFSET: bool>() -> Option<TileFn> {
    if BITS == 8 || BLOCK > part_of(BLOCK) {
        None
    } else {
        Some(one_part::many_tokens::<BITS, BLOCK, OFFSET>)
    }
}

/// Bytes of one part of a block of a tile.
pub(super) const fn part_bytes(bits: u8, block: usize) -> usize {
    part_of(block) * bits as usize * 2
}

/// Where the codes of a group of four rows start in a part: two groups share those of 4 bits.
pub(super) const fn codes_at(bits: u8, block: usize, group: usize) -> usize {
    4 * part_of(block) * if bits == 4 { group / 2 } else { group }
}
