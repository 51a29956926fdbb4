//! Cortex-M with the DSP extension and an FPU (M4, M7, M33): four rows at a time for one token, two rows for two tokens.
//!
//! `smlad` multiplies two pairs of 16-bit numbers and adds both products to a 32-bit sum. Activations lie widened to
//! such pairs in the records; what unpacks the weights is what costs.
//!
//! 8 bits: a word holds the codes of four columns a, b, c, d of one row, a and c as 0..=255, b and d as -128..=127. Read as
//! two 16-bit numbers it is `[256 b + a, 256 d + c]`, and `uxtb16` gives `[a, c]`. So with activations `B = [xb, xd]` and
//! `A = [256 xa - xb, 256 xc - xd]` the sum `word·B + uxtb16(word)·A` is `256 (a xa + b xb + c xc + d xd)`, one instruction of
//! unpacking for four products. What `a` and `c` are too large by (128) is in what the sum starts at. Sums are modulo 2³²: the
//! largest, 128 columns of 128 · 127, is far below 2³¹ / 256.
//!
//! 4 bits: `and mask, word lsr n` gives two codes as 0..=15 in 16-bit lanes, in one instruction.
//!
//! One token takes four rows: a word of activations is read once for all of them. Two tokens take two rows, so that a word of
//! weights is unpacked once for both. All registers are taken, so pointers wait on the stack.

#[macro_use]
mod steps;
mod one_token;
mod two_tokens;

use super::activations::{DSP_NUMBER_BYTES, Order};
use super::arm_rows::{self, Distance, Turn, ring};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, ROW_TILE, part_of};
use super::scalar::dense_tile;

implementations! {
    quantised: "arm-dsp",
    dense: "scalar",
    Interleave::of(crate::IsaKind::ArmDsp),
    if BITS == 4 { Order::Halves } else { Order::SplitPairs },
    tokens: [2, 1],
    takes_runs: true,
}

/// # Safety
/// See [`super::kernel::TileFn`].
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe { any_tile::<BITS, TOKENS>(tile) };
}

/// All sizes of blocks, with offsets and without, in one function: flash is dear. The tile's shape tells them apart.
///
/// # Safety
/// See [`super::kernel::TileFn`].
#[inline(never)]
unsafe fn any_tile<const BITS: u8, const TOKENS: usize>(tile: &Tile<'_>) {
    let shape = tile.shape;
    let codes = TOKENS * shape.parts * part_of(32) * 2;
    // A group of four rows has a quarter of a block's parameters.
    let group = Distance {
        weights: group_bytes(BITS),
        params: shape.params_bytes / 4,
    };
    // SAFETY: the caller's promise.
    unsafe {
        let (weights, out, params) = (tile.weights, tile.out, arm_rows::params(tile));
        let (x, params_bytes) = (tile.activations, shape.params_bytes);
        let x_end = arm_rows::records_end(tile, codes + TOKENS * DSP_NUMBER_BYTES);
        if TOKENS == 1 {
            let apart = (ROW_TILE * size_of::<f32>() / 4).wrapping_sub(group.params);
            let last = Distance {
                weights: 3 * group.weights,
                params: 3 * group.params,
            };
            let mut turns = [
                Turn::within(tile, group, 0),
                Turn::within(tile, group, apart),
                Turn::within(tile, group, 2 * apart),
                Turn::to_next_tile(tile, last, 3 * apart),
            ];
            let turn = ring(&mut turns);
            one_token::groups::<BITS>(turn, weights, out, params, x, x_end, codes, params_bytes);
        } else {
            let half = Distance {
                weights: 8,
                params: 4,
            };
            let mut turns = Turn::by_halves(tile, half, group);
            let turn = ring(&mut turns);
            two_tokens::groups::<BITS>(turn, weights, out, params, x, x_end, codes, params_bytes);
        }
    }
}

/// Bytes of a part of a block of four rows.
const fn group_bytes(bits: u8) -> usize {
    part_of(32) * bits as usize / 8 * 4
}
