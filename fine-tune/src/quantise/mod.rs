//! Block quantisation of weights, in the layout of com.microsoft `MatMulNBits`.
//!
//! A weight matrix `[rows, cols]` (outputs × inputs) is cut into blocks of [`BLOCK`] columns, or 64 or 128.
//! Each block keeps one scale, perhaps one zero point, and a code for each weight: `weight = scale · (code − zero_point)`. Scales (and
//! the products `scale · zero_point` of float zero points) are chosen among the values that f16 holds exactly, so
//! that a runtime may keep them in half the bytes without loss.

mod factor;
mod feedback;
mod four_bits;
mod grid;
mod symmetric;

pub use feedback::{Feedback, Moments};
pub use grid::to_f16;

use rayon::prelude::*;

/// Columns that share a scale unless said otherwise.
pub const BLOCK: usize = 32;

/// The blocks that there are: larger ones take fewer bytes and less arithmetic, and lose more.
pub const BLOCKS: [usize; 3] = [32, 64, 128];

/// How to quantise a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// 8 bits, symmetric: codes are around 128, there are no zero points.
    EightBits,
    /// 4 bits with a 4-bit zero point for each block.
    FourBits,
    /// 4 bits with a float zero point for each block: finer, and exact for weights that come from GGUF's `Q4_1`.
    FourBitsFloatZero,
}

impl Recipe {
    /// Bits of a code.
    pub fn bits(self) -> usize {
        match self {
            Self::EightBits => 8,
            Self::FourBits | Self::FourBitsFloatZero => 4,
        }
    }
}

/// The zero points of a quantised matrix.
#[derive(Clone, Debug, PartialEq)]
pub enum ZeroPoints {
    /// None are stored: all are the middle of the code range.
    Middle,
    /// 4 bits each, two a byte, low first; each row starts on a byte: `[rows, ceil(blocks / 2)]`.
    Packed(Vec<u8>),
    /// `[rows, blocks]`.
    Float(Vec<f32>),
}

/// A quantised matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    /// Bits of a code.
    pub bits: usize,
    /// Rows: outputs of the linear layer, or words of the vocabulary.
    pub rows: usize,
    /// Columns: inputs.
    pub cols: usize,
    /// Columns that share a scale.
    pub block: usize,
    /// Codes, `[rows, blocks, block * bits / 8]`; with 4 bits the even column is the low half of the byte.
    pub codes: Vec<u8>,
    /// Scales, `[rows, blocks]`.
    pub scales: Vec<f32>,
    /// Zero points.
    pub zero_points: ZeroPoints,
}

impl Quantised {
    /// Blocks in a row.
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(self.block)
    }

    /// The weights that the codes stand for, `[rows, cols]`.
    pub fn dequantise(&self) -> Vec<f32> {
        let blocks = self.blocks();
        let zeros_per_row = blocks.div_ceil(2);
        let mut weights = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            for col in 0..self.cols {
                let block = row * blocks + col / self.block;
                let place = block * self.block + col % self.block;
                let code = match self.bits {
                    4 => nibble(&self.codes, place),
                    _ => self.codes[place],
                };
                let zero = match &self.zero_points {
                    ZeroPoints::Middle => (1u32 << (self.bits - 1)) as f32,
                    ZeroPoints::Packed(packed) => {
                        f32::from(nibble(&packed[row * zeros_per_row..], col / self.block))
                    }
                    ZeroPoints::Float(zeros) => zeros[block],
                };
                weights.push(self.scales[block] * (f32::from(code) - zero));
            }
        }
        weights
    }
}

/// One block, as the search for its best grid sees it.
struct Block<const N: usize> {
    /// Weights; zeros behind the end of the row.
    weights: [f32; N],
    /// How many of them count.
    len: usize,
}

/// A block's result.
struct Coded<const N: usize> {
    scale: f32,
    zero: f32,
    codes: [u8; N],
}

/// Quantises `weights`, `[rows, cols]`, in blocks of `block` columns, one of [`BLOCKS`]. Rows are spread over the
/// machine's cores; the result doesn't depend on how many.
pub fn quantise(
    weights: &[f32],
    rows: usize,
    cols: usize,
    recipe: Recipe,
    block: usize,
) -> Quantised {
    match block {
        32 => quantise_blocks::<32>(weights, rows, cols, recipe),
        64 => quantise_blocks::<64>(weights, rows, cols, recipe),
        128 => quantise_blocks::<128>(weights, rows, cols, recipe),
        other => panic!("blocks of {other} columns: there are {BLOCKS:?}"),
    }
}

fn quantise_blocks<const N: usize>(
    weights: &[f32],
    rows: usize,
    cols: usize,
    recipe: Recipe,
) -> Quantised {
    assert_eq!(
        weights.len(),
        rows * cols,
        "one weight for each place in the matrix"
    );
    let bits = recipe.bits();
    let blocks = cols.div_ceil(N);
    let code_bytes = N * bits / 8;
    let zero_bytes = blocks.div_ceil(2);
    let mut codes = vec![0u8; rows * blocks * code_bytes];
    let mut scales = vec![0f32; rows * blocks];
    let mut zeros = vec![0f32; rows * blocks];
    codes
        .par_chunks_mut((blocks * code_bytes).max(1))
        .zip(scales.par_chunks_mut(blocks.max(1)))
        .zip(zeros.par_chunks_mut(blocks.max(1)))
        .zip(weights.par_chunks(cols.max(1)))
        .for_each(|(((codes, scales), zeros), row)| {
            let parts = codes.chunks_exact_mut(code_bytes).zip(scales).zip(zeros);
            for (((codes, scale), zero), part) in parts.zip(row.chunks(N)) {
                let mut block = Block {
                    weights: [0.0; N],
                    len: part.len(),
                };
                block.weights[..part.len()].copy_from_slice(part);
                let coded = match recipe {
                    Recipe::EightBits => symmetric::code(&block),
                    Recipe::FourBits => four_bits::code_integer_zero(&block),
                    Recipe::FourBitsFloatZero => four_bits::code_float_zero(&block),
                };
                (*scale, *zero) = (coded.scale, coded.zero);
                pack(&coded.codes, bits, codes);
            }
        });
    let zero_points = match recipe {
        Recipe::EightBits => ZeroPoints::Middle,
        Recipe::FourBitsFloatZero => ZeroPoints::Float(zeros),
        Recipe::FourBits => {
            let mut packed = vec![0u8; rows * zero_bytes];
            let lines = packed.chunks_exact_mut(zero_bytes.max(1));
            for (packed, zeros) in lines.zip(zeros.chunks(blocks.max(1))) {
                let whole: Vec<u8> = zeros.iter().map(|&zero| zero as u8).collect();
                pack(&whole, 4, packed);
            }
            ZeroPoints::Packed(packed)
        }
    };
    Quantised {
        bits,
        rows,
        cols,
        block: N,
        codes,
        scales,
        zero_points,
    }
}

/// Packs codes of `bits` bits into `out`: low half of a byte first.
fn pack(codes: &[u8], bits: usize, out: &mut [u8]) {
    if bits == 4 {
        for (byte, pair) in out.iter_mut().zip(codes.chunks(2)) {
            *byte = pair.iter().rev().fold(0, |byte, code| byte << 4 | code);
        }
    } else {
        out.copy_from_slice(codes);
    }
}

fn nibble(bytes: &[u8], index: usize) -> u8 {
    bytes[index / 2] >> (4 * (index % 2)) & 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights that look like a trained layer's: a bell curve with a few large ones.
    fn sample(rows: usize, cols: usize) -> Vec<f32> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..rows * cols)
            .map(|_| {
                let bell = (0..6).map(|_| next()).sum::<f32>() * 0.05;
                if next() > 0.48 { bell * 4.0 } else { bell }
            })
            .collect()
    }

    fn relative_error(
        weights: &[f32],
        recipe: Recipe,
        rows: usize,
        cols: usize,
        block: usize,
    ) -> f64 {
        let quantised = quantise(weights, rows, cols, recipe, block);
        let restored = quantised.dequantise();
        let error: f64 = weights
            .iter()
            .zip(&restored)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum();
        let power: f64 = weights.iter().map(|a| f64::from(*a).powi(2)).sum();
        (error / power).sqrt()
    }

    #[test]
    fn every_recipe_stays_within_its_error_also_with_a_short_last_block() {
        for cols in [64, 72, 32, 5] {
            let weights = sample(48, cols);
            let error = |recipe| relative_error(&weights, recipe, 48, cols, BLOCK);
            assert!(error(Recipe::EightBits) < 0.008);
            assert!(error(Recipe::FourBits) < 0.10);
            assert!(error(Recipe::FourBitsFloatZero) < 0.09);
        }
    }

    #[test]
    fn larger_blocks_lose_more_but_not_much() {
        let weights = sample(48, 200);
        for (recipe, most) in [
            (Recipe::EightBits, 0.012),
            (Recipe::FourBits, 0.17),
            (Recipe::FourBitsFloatZero, 0.16),
        ] {
            let errors = BLOCKS.map(|block| relative_error(&weights, recipe, 48, 200, block));
            assert!(errors.is_sorted(), "{recipe:?}: {errors:?}");
            assert!(errors[2] < most, "{recipe:?}: {errors:?}");
        }
    }

    #[test]
    fn weights_on_a_grid_of_d_and_m_come_back_exactly() {
        let (d, m) = (
            half::f16::from_f32(0.0123).to_f32(),
            half::f16::from_f32(-0.071).to_f32(),
        );
        let weights: Vec<f32> = (0..BLOCK).map(|i| d * (i * 7 % 16) as f32 + m).collect();
        let quantised = quantise(&weights, 1, BLOCK, Recipe::FourBitsFloatZero, BLOCK);
        assert_eq!(quantised.scales, [d]);
        for (restored, weight) in quantised.dequantise().iter().zip(&weights) {
            assert!((restored - weight).abs() < 1e-7, "{restored} for {weight}");
        }
    }

    #[test]
    fn odd_blocks_stay_finite() {
        for value in [0.0, 1e-30, -3.5, 7.0, 6e4, f32::MIN_POSITIVE] {
            let mut weights = vec![value; 2 * BLOCK];
            weights[0] = -value;
            for recipe in [
                Recipe::EightBits,
                Recipe::FourBits,
                Recipe::FourBitsFloatZero,
            ] {
                let quantised = quantise(&weights, 1, 2 * BLOCK, recipe, BLOCK);
                for (restored, weight) in quantised.dequantise().iter().zip(&weights) {
                    let close = (restored - weight).abs() <= 0.07 * weight.abs() + 1e-6;
                    assert!(close, "{recipe:?}: {restored} for {weight}");
                }
            }
        }
    }
}
