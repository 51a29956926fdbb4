//! Grids `scale · (code − zero)` and how well one fits a block.

use super::{Block, Coded};

/// The nearest value that f16 holds; saturates instead of overflowing to infinity.
pub fn to_f16(value: f32) -> f32 {
    let limit = half::f16::MAX.to_f32();
    half::f16::from_f32(value.clamp(-limit, limit)).to_f32()
}

/// Rounds to the nearest integer, ties to even, for magnitudes below 2²². Unlike `round_ties_even` this
/// turns into two additions on every machine, and the search below spends its time here.
fn round(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

/// Codes of `block` on the grid `scale · code + offset`, as floats in `0..=top`.
pub(super) fn codes<const N: usize>(
    block: &Block<N>,
    scale: f32,
    offset: f32,
    top: f32,
) -> [f32; N] {
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    block
        .weights
        .map(|weight| round(((weight - offset) * inverse).clamp(0.0, top)))
}

/// Squared error of `block` on a grid with these codes.
pub(super) fn error<const N: usize>(
    block: &Block<N>,
    codes: &[f32; N],
    scale: f32,
    offset: f32,
) -> f32 {
    let mut sum = 0.0;
    for (weight, code) in block.weights[..block.len].iter().zip(codes) {
        let miss = scale * code + offset - weight;
        sum += miss * miss;
    }
    sum
}

/// Smallest and largest weight of the block.
pub(super) fn range<const N: usize>(block: &Block<N>) -> (f32, f32) {
    let part = &block.weights[..block.len];
    let low = part.iter().copied().fold(f32::INFINITY, f32::min);
    let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (low, high)
}

/// Turns float codes into the block's result.
pub(super) fn coded<const N: usize>(codes: &[f32; N], scale: f32, zero: f32) -> Coded<N> {
    Coded {
        scale,
        zero,
        codes: codes.map(|code| code as u8),
    }
}
