//! Cortex-M with Helium (M55, M85): eight rows at a time for one token, four rows for two tokens.
//!
//! `vmladava` multiplies sixteen bytes by sixteen, adds all products and adds that to a register of the core; only even registers
//! can be such a sum, and there are eight. So eight sums run side by side. With 4 bits a vector of bytes gives two of codes, as
//! 0..=15: what they are too large by is in what is added to the sums.
//!
//! Vectors of floats flush numbers below 2⁻¹²⁶ to zero: the only place where results can differ from the scalar twin's.

mod one_token;
mod two_tokens;

use super::activations::{NUMBER_BYTES, Order};
use super::arm_rows::{self, Distance, Turn, ring};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES};
use super::scalar::dense_tile;

implementations! {
    quantised: "helium",
    dense: "scalar",
    Interleave::of(crate::IsaKind::Helium),
    Order::Plain,
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
    // A group of eight rows has half of a block's parameters.
    let group = Distance {
        weights: group_bytes(BITS),
        params: if OFFSET { PARAM_BYTES } else { PARAM_BYTES / 2 },
    };
    let (x, weights, out) = (tile.activations, tile.weights, tile.out);
    // SAFETY: the caller's promise.
    unsafe {
        let params = arm_rows::params(tile);
        let x_end = arm_rows::records_end(tile, TOKENS * (BLOCK + NUMBER_BYTES));
        if TOKENS == 1 {
            let mut turns = [
                Turn::within(tile, group, 0),
                Turn::to_next_tile(tile, group, PARAM_BYTES - group.params),
            ];
            let turn = ring(&mut turns);
            one_token::groups::<BITS, OFFSET, BLOCK>(turn, x, weights, params, x_end, out);
        } else {
            let half = Distance {
                weights: 64,
                params: 8,
            };
            let mut turns = Turn::by_halves(tile, half, group);
            let turn = ring(&mut turns);
            two_tokens::groups::<BITS, OFFSET>(turn, x, weights, params, x_end, out, BLOCK);
        }
    }
}

/// Bytes of a part of a block of eight rows.
const fn group_bytes(bits: u8) -> usize {
    8 * 32 * bits as usize / 8
}
