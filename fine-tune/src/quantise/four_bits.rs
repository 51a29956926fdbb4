//! 4 bits with an offset: a search over grids for the one with the least squared error.
//!
//! Plain rounding between the block's extremes wastes the grid on outliers. Both searches start there and try
//! grids that clip a little, each refined by least squares (the idea of llama.cpp's `make_qkx2_quants`).

use super::grid::{self, to_f16};
use super::{Block, Coded};

/// Largest code.
const TOP: f32 = 15.0;
/// Candidates tried, from a grid of `TOP - 1` steps over the range to one of `TOP + 1`.
const STEPS: usize = 20;

/// A block whose weights are all equal, or so close together that f16 has no step between them.
fn constant<const N: usize>(value: f32) -> Coded<N> {
    let scale = to_f16(value.abs());
    if value >= 0.0 {
        grid::coded(&[1.0; N], scale, 0.0)
    } else {
        grid::coded(&[0.0; N], scale, 1.0)
    }
}

/// Least-squares `(scale, offset)` for given codes; `None` when all codes are equal.
fn fit<const N: usize>(block: &Block<N>, codes: &[f32; N]) -> Option<(f32, f32)> {
    let n = block.len as f32;
    let (mut c, mut cc, mut w, mut cw) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for (code, weight) in codes.iter().zip(&block.weights[..block.len]) {
        c += code;
        cc += code * code;
        w += weight;
        cw += code * weight;
    }
    let spread = n * cc - c * c;
    if spread <= 0.0 {
        return None;
    }
    let scale = (n * cw - c * w) / spread;
    Some((scale, (w - scale * c) / n))
}

/// Scale and offset anywhere in f16: the zero point is `-offset / scale`.
pub(super) fn code_float_zero<const N: usize>(block: &Block<N>) -> Coded<N> {
    let (low, high) = grid::range(block);
    let plain = to_f16((high - low) / TOP);
    if plain <= 0.0 {
        return constant(low);
    }
    let mut best = Best::new(block, plain, to_f16(low));
    for step in 0..=STEPS {
        if best.error == 0.0 {
            break;
        }
        let stretch = TOP - 1.0 + 2.0 * step as f32 / STEPS as f32;
        let codes = grid::codes(block, (high - low) / stretch, low, TOP);
        if let Some((scale, offset)) = fit(block, &codes) {
            best.consider(block, to_f16(scale), to_f16(offset));
        }
    }
    grid::coded(&best.codes, best.scale, -best.offset / best.scale)
}

/// Scale in f16, zero point a whole number in `0..=15`.
pub(super) fn code_integer_zero<const N: usize>(block: &Block<N>) -> Coded<N> {
    let (low, high) = grid::range(block);
    let (low, high) = (low.min(0.0), high.max(0.0));
    if to_f16((high - low) / TOP) <= 0.0 {
        return constant(low);
    }
    let middle = (-low * TOP / (high - low)).round();
    let mut best: Option<Best<N>> = None;
    for shift in [0.0, -1.0, 1.0, -2.0, 2.0] {
        let zero: f32 = middle + shift;
        if !(0.0..=TOP).contains(&zero) {
            continue;
        }
        // The smallest scale that clips nothing with this zero point.
        let up = if zero < TOP { high / (TOP - zero) } else { 0.0 };
        let down = if zero > 0.0 { -low / zero } else { 0.0 };
        let whole = up.max(down);
        for step in 0..=STEPS {
            let scale = whole * (1.04 - 0.44 * step as f32 / STEPS as f32);
            let codes = grid::codes(block, scale, -zero * scale, TOP);
            let scale = to_f16(fit_scale(block, &codes, zero).unwrap_or(scale));
            if scale <= 0.0 {
                continue;
            }
            match &mut best {
                Some(best) => best.consider(block, scale, -zero * scale),
                None => best = Some(Best::new(block, scale, -zero * scale)),
            }
        }
    }
    match best {
        Some(best) => grid::coded(&best.codes, best.scale, (-best.offset / best.scale).round()),
        None => constant(low),
    }
}

/// Least-squares scale for given codes and zero point.
fn fit_scale<const N: usize>(block: &Block<N>, codes: &[f32; N], zero: f32) -> Option<f32> {
    let (mut cc, mut cw) = (0.0f32, 0.0f32);
    for (code, weight) in codes.iter().zip(&block.weights[..block.len]) {
        let code = code - zero;
        cc += code * code;
        cw += code * weight;
    }
    (cc > 0.0).then(|| cw / cc)
}

/// The best grid so far.
struct Best<const N: usize> {
    scale: f32,
    offset: f32,
    codes: [f32; N],
    error: f32,
}

impl<const N: usize> Best<N> {
    fn new(block: &Block<N>, scale: f32, offset: f32) -> Self {
        let codes = grid::codes(block, scale, offset, TOP);
        let error = grid::error(block, &codes, scale, offset);
        Self {
            scale,
            offset,
            codes,
            error,
        }
    }

    fn consider(&mut self, block: &Block<N>, scale: f32, offset: f32) {
        if scale <= 0.0 {
            return;
        }
        let other = Self::new(block, scale, offset);
        if other.error < self.error {
            *self = other;
        }
    }
}
