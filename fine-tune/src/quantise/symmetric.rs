//! 8 bits, symmetric around 128.

use super::grid::{self, to_f16};
use super::{Block, Coded};

/// Codes run from 1 to 255: ±127 around the middle, as the kernels for signed bytes like it.
const REACH: f32 = 127.0;
const MIDDLE: f32 = 128.0;

/// Chooses the f16 scale next to `max / 127` that fits the block best.
pub(super) fn code(block: &Block) -> Coded {
    let (low, high) = grid::range(block);
    let reach = low.abs().max(high.abs());
    let nearest = half::f16::from_f32(to_f16(reach / REACH));
    let bits = nearest.to_bits();
    let neighbours = [bits, bits.saturating_add(1), bits.saturating_sub(1)];
    let mut best: Option<(f32, Coded)> = None;
    for bits in neighbours {
        let scale = half::f16::from_bits(bits).to_f32();
        if !scale.is_finite() {
            continue;
        }
        let codes = grid::codes(block, scale, -REACH * scale, 2.0 * REACH);
        let error = grid::error(block, &codes, scale, -REACH * scale);
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            let shifted = codes.map(|code| code + MIDDLE - REACH);
            best = Some((error, grid::coded(&shifted, scale, MIDDLE)));
        }
    }
    best.map_or_else(
        || grid::coded(&[MIDDLE; super::BLOCK], 0.0, MIDDLE),
        |(_, coded)| coded,
    )
}
