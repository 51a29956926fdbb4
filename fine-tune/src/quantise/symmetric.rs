//! 8 bits, symmetric around 128.

use super::grid::{self, to_f16};
use super::{Block, Coded};

/// Codes run from 1 to 255: ±127 around the middle, as the kernels for signed bytes like it.
const REACH: f32 = 127.0;
const MIDDLE: f32 = 128.0;
/// Steps between the 16 levels of a 4-bit block.
const COARSE_STEPS: f32 = 15.0;
/// How many divisors of a coarse step are tried.
const DIVISORS: usize = 6;

/// Chooses the f16 scale that fits the block best: `max / 127` and its neighbours, and whole fractions of the step
/// between levels in case the block was in 4 bits before. The last cut the squared error to a fifth for weights that come
/// from GGUF's `Q4_1`, because all of their 16 levels then lie near codes.
pub(super) fn code<const N: usize>(block: &Block<N>) -> Coded<N> {
    let (low, high) = grid::range(block);
    let reach = low.abs().max(high.abs());
    let nearest = half::f16::from_f32(to_f16(reach / REACH)).to_bits();
    let mut best = Best::new(block);
    for bits in [
        nearest,
        nearest.saturating_add(1),
        nearest.saturating_sub(1),
    ] {
        best.consider(block, half::f16::from_bits(bits).to_f32());
    }
    let step = (high - low) / COARSE_STEPS;
    let most = if reach > 0.0 {
        (REACH * step / reach + 1e-3).floor()
    } else {
        0.0
    };
    for less in 0..DIVISORS {
        let divisor = most - less as f32;
        if divisor < 1.0 || best.error == 0.0 {
            break;
        }
        best.consider(block, to_f16(step / divisor));
        best.consider(block, to_f16(best.fitted(block)));
    }
    grid::coded(
        &best.codes.map(|code| code + MIDDLE - REACH),
        best.scale,
        MIDDLE,
    )
}

/// The best scale so far.
struct Best<const N: usize> {
    scale: f32,
    /// Codes from 0 to 254, the middle at 127.
    codes: [f32; N],
    error: f32,
    /// The codes considered last, from which the next scale is fitted.
    last: [f32; N],
}

impl<const N: usize> Best<N> {
    /// All weights taken for zero.
    fn new(block: &Block<N>) -> Self {
        let codes = [REACH; N];
        Self {
            scale: 0.0,
            codes,
            error: grid::error(block, &codes, 0.0, 0.0),
            last: codes,
        }
    }

    fn consider(&mut self, block: &Block<N>, scale: f32) {
        if scale <= 0.0 || !scale.is_finite() {
            return;
        }
        let offset = -REACH * scale;
        self.last = grid::codes(block, scale, offset, 2.0 * REACH);
        let error = grid::error(block, &self.last, scale, offset);
        if error < self.error {
            (self.scale, self.codes, self.error) = (scale, self.last, error);
        }
    }

    /// Least-squares scale for the codes considered last.
    fn fitted(&self, block: &Block<N>) -> f32 {
        let (mut cc, mut cw) = (0.0f32, 0.0f32);
        for (code, weight) in self.last.iter().zip(&block.weights[..block.len]) {
            let code = code - REACH;
            cc += code * code;
            cw += code * weight;
        }
        if cc > 0.0 { cw / cc } else { 0.0 }
    }
}
