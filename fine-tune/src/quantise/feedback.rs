//! Rounding that makes up for its own errors: E. Frantar and others, «GPTQ», 2022, arXiv 2210.17323.
//!
//! What counts is not how far each weight moves but how far the layer's outputs do, over the inputs that it really gets. With
//! `H = XᵀX` of those inputs, a row's error `e` costs `e · H · eᵀ`. Let `H = L D Lᵀ` with a unit lower triangular L; then the cost
//! is the sum over columns k of `d_k · (e_k + Σ_{j>k} e_j · L[j, k])²`. Columns are rounded from the last to the first, each
//! after adding what the errors of those after it ask for, which is the choice that makes its own term least. This is GPTQ in the
//! form of J. Chee and others, «QuIP», 2023, arXiv 2307.13304, section 4: the same numbers without an inverse.
//!
//! The columns with the largest inputs come first, while nothing has to be made up for yet. Each block keeps the grid that plain
//! rounding would give it.

use rayon::prelude::*;

use super::factor::ldl;
use super::{Quantised, Recipe, ZeroPoints, nibble, pack, quantise};

/// Rows that are rounded side by side, one in each lane.
const LANES: usize = 16;

/// Parts of the mean of H's diagonal that are added to it, the first that makes it positive definite.
const DAMPING: [f64; 3] = [0.01, 0.1, 1.0];

/// Second moments of a layer's inputs: `H = XᵀX`, summed up over a text.
#[derive(Debug, Clone)]
pub struct Moments {
    cols: usize,
    /// `[cols, cols]`.
    sums: Vec<f64>,
}

impl Moments {
    /// Those of no inputs yet, of `cols` numbers each.
    pub fn new(cols: usize) -> Moments {
        Moments {
            cols,
            sums: vec![0.0; cols * cols],
        }
    }

    /// Adds `products` `[cols, cols]`, the moments of some more inputs.
    pub fn add(&mut self, products: &[f32]) {
        let pairs = self.sums.par_iter_mut().zip(products);
        pairs.for_each(|(sum, product)| *sum += f64::from(*product));
    }
}

/// How the error of each column is made up for by those that are rounded later.
#[derive(Debug)]
pub struct Feedback {
    /// The columns, least important first: the last one is rounded first.
    order: Vec<usize>,
    /// `[cols, cols]`: in row k, `L[j, k]` for each `j > k`.
    factors: Vec<f32>,
}

impl Feedback {
    /// The feedback for layers whose inputs have these moments; none if some aren't finite.
    pub fn of(moments: &Moments) -> Option<Feedback> {
        let Moments { cols, sums } = moments;
        let cols = *cols;
        let diagonal: Vec<f64> = sums.iter().step_by(cols + 1).copied().collect();
        let mean = diagonal.iter().sum::<f64>() / cols.max(1) as f64;
        if !mean.is_finite() {
            return None;
        }
        let mut order: Vec<usize> = (0..cols).collect();
        order.sort_by(|&a, &b| diagonal[a].total_cmp(&diagonal[b]));
        for damping in DAMPING {
            // Inputs that are all zero leave nothing to make up for.
            let added = damping * if mean > 0.0 { mean } else { 1.0 };
            let mut matrix = vec![0.0; cols * cols];
            let rows = matrix.par_chunks_mut(cols.max(1)).zip(&order);
            rows.enumerate().for_each(|(index, (row, &from))| {
                for (place, &col) in row.iter_mut().zip(&order) {
                    *place = sums[from * cols + col];
                }
                row[index] += added;
            });
            if !ldl(&mut matrix, cols) {
                continue;
            }
            let mut factors = vec![0f32; cols * cols];
            let rows = factors.par_chunks_mut(cols.max(1)).enumerate();
            rows.for_each(|(k, row)| {
                for (j, place) in row.iter_mut().enumerate().skip(k + 1) {
                    *place = matrix[j * cols + k] as f32;
                }
            });
            return Some(Feedback { order, factors });
        }
        None
    }

    /// Quantises `weights` `[rows, cols]` as [`quantise`] does, but for the feedback. The result doesn't depend on the number of
    /// threads.
    pub fn quantise(
        &self,
        weights: &[f32],
        rows: usize,
        recipe: Recipe,
        block: usize,
    ) -> Quantised {
        let cols = self.order.len();
        let mut quantised = quantise(weights, rows, cols, recipe, block);
        let grids = Grids::of(&quantised);
        let row_bytes = quantised.codes.len() / rows.max(1);
        let bits = quantised.bits;
        let groups = quantised.codes.par_chunks_mut((row_bytes * LANES).max(1));
        groups
            .zip(weights.par_chunks((cols * LANES).max(1)))
            .enumerate()
            .for_each(|(group, (out, weights))| {
                let lanes = self.round(weights, &grids, group * LANES);
                for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                    let mut codes = vec![grids.padding; grids.blocks * grids.block];
                    for (code, lanes) in codes.iter_mut().zip(&lanes) {
                        *code = lanes[row];
                    }
                    pack(&codes, bits, out);
                }
            });
        quantised
    }

    /// Codes of up to sixteen rows, from row `first` on, by column.
    fn round(&self, weights: &[f32], grids: &Grids, first: usize) -> Vec<[u8; LANES]> {
        let cols = self.order.len();
        let mut codes = vec![[grids.padding; LANES]; cols];
        let mut errors = vec![[0f32; LANES]; cols];
        for k in (0..cols).rev() {
            let column = self.order[k];
            let mut wanted = [0f32; LANES];
            let later = self.factors[k * cols..(k + 1) * cols].iter().zip(&errors);
            for (factor, errors) in later.skip(k + 1) {
                for (wanted, error) in wanted.iter_mut().zip(errors) {
                    *wanted += factor * error;
                }
            }
            for (lane, row) in weights.chunks_exact(cols).enumerate() {
                let weight = row[column];
                let (code, value) = grids.nearest(first + lane, column, weight + wanted[lane]);
                codes[column][lane] = code;
                errors[k][lane] = weight - value;
            }
        }
        codes
    }
}

/// The grids of all blocks of a matrix.
struct Grids {
    /// Columns of a block.
    block: usize,
    /// Blocks of a row.
    blocks: usize,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    lowest: f32,
    highest: f32,
    /// The code of what lies behind the last column.
    padding: u8,
}

impl Grids {
    fn of(quantised: &Quantised) -> Grids {
        let blocks = quantised.blocks();
        let middle = 1u8 << (quantised.bits - 1);
        let zeros = match &quantised.zero_points {
            ZeroPoints::Float(zeros) => zeros.clone(),
            ZeroPoints::Middle => vec![f32::from(middle); quantised.scales.len()],
            ZeroPoints::Packed(packed) => packed
                .chunks_exact(blocks.div_ceil(2).max(1))
                .flat_map(|row| (0..blocks).map(|block| f32::from(nibble(row, block))))
                .collect(),
        };
        // Eight bits are symmetric: see `symmetric`.
        let (lowest, highest) = match quantised.bits {
            4 => (0.0, 15.0),
            _ => (1.0, 255.0),
        };
        Grids {
            block: quantised.block,
            blocks,
            scales: quantised.scales.clone(),
            zeros,
            lowest,
            highest,
            padding: middle,
        }
    }

    /// The code that is nearest to `value` in a place of the matrix, and what it stands for.
    fn nearest(&self, row: usize, column: usize, value: f32) -> (u8, f32) {
        let block = row * self.blocks + column / self.block;
        let (scale, zero) = (self.scales[block], self.zeros[block]);
        let code = if scale > 0.0 {
            value / scale + zero
        } else {
            zero
        };
        let code = code.round_ties_even().clamp(self.lowest, self.highest);
        (code as u8, scale * (code - zero))
    }
}

#[cfg(test)]
mod tests {
    use super::super::BLOCK;
    use super::*;

    /// Inputs `[count, cols]` that hang together, some columns larger than others.
    fn inputs(count: usize, cols: usize) -> Vec<f32> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut all = Vec::with_capacity(count * cols);
        for _ in 0..count {
            let common = next();
            for col in 0..cols {
                let size = if col % 11 == 3 { 4.0 } else { 1.0 };
                all.push(size * (next() + common * ((col % 5) as f32 - 1.0)));
            }
        }
        all
    }

    fn moments(x: &[f32], cols: usize) -> Moments {
        let mut moments = Moments::new(cols);
        for x in x.chunks(cols) {
            let products: Vec<f32> = x
                .iter()
                .flat_map(|a| x.iter().map(move |b| a * b))
                .collect();
            moments.add(&products);
        }
        moments
    }

    /// How far the outputs move, squared and summed.
    fn cost(x: &[f32], weights: &[f32], quantised: &Quantised) -> f64 {
        let cols = quantised.cols;
        let restored = quantised.dequantise();
        let errors: Vec<f32> = weights.iter().zip(&restored).map(|(a, b)| a - b).collect();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let outputs = x
            .chunks(cols)
            .flat_map(|x| errors.chunks(cols).map(move |row| dot(row, x)));
        outputs.map(|output| output * output).sum()
    }

    #[test]
    fn outputs_move_far_less_than_with_plain_rounding() {
        for (rows, cols, recipe, block) in [
            (37, 96, Recipe::FourBits, 32),
            (16, 130, Recipe::FourBitsFloatZero, 64),
            (3, 64, Recipe::EightBits, 32),
        ] {
            let x = inputs(512, cols);
            let weights: Vec<f32> = inputs(rows, cols).iter().map(|w| w * 0.05).collect();
            let feedback = Feedback::of(&moments(&x, cols)).unwrap();
            let plain = cost(&x, &weights, &quantise(&weights, rows, cols, recipe, block));
            let found = feedback.quantise(&weights, rows, recipe, block);
            let made_up = cost(&x, &weights, &found);
            println!("{recipe:?}: {plain:.3e} to {made_up:.3e}");
            assert!(made_up < 0.5 * plain, "{recipe:?}: {plain} to {made_up}");
        }
    }

    /// Each rounding but the first looks at the errors before it, so no single code can be changed for the better while the later
    /// ones stay: that is what the order promises of the last column rounded.
    #[test]
    fn the_last_column_rounded_is_the_best_there_is() {
        let (rows, cols) = (5, 40);
        let x = inputs(200, cols);
        let weights: Vec<f32> = inputs(rows, cols).iter().map(|w| w * 0.05).collect();
        let feedback = Feedback::of(&moments(&x, cols)).unwrap();
        let found = feedback.quantise(&weights, rows, Recipe::EightBits, BLOCK);
        let best = cost(&x, &weights, &found);
        let last = feedback.order[0];
        for change in [-1i16, 1] {
            for row in 0..rows {
                let mut other = found.clone();
                let place = row * found.blocks() * BLOCK + last;
                let code = i16::from(other.codes[place]) + change;
                other.codes[place] = code.clamp(1, 255) as u8;
                assert!(cost(&x, &weights, &other) >= best * 0.999);
            }
        }
    }

    #[test]
    fn odd_inputs_give_a_rounding_or_none() {
        let weights = vec![0.1; 2 * 33];
        let plain = quantise(&weights, 2, 33, Recipe::FourBits, BLOCK);
        let silent = Feedback::of(&Moments::new(33)).unwrap();
        assert_eq!(
            silent
                .quantise(&weights, 2, Recipe::FourBits, BLOCK)
                .dequantise(),
            plain.dequantise()
        );
        let one = moments(&[1.0; 33], 33);
        let same = Feedback::of(&one)
            .unwrap()
            .quantise(&weights, 2, Recipe::FourBits, BLOCK);
        assert!(same.dequantise().iter().all(|w| w.is_finite()));
        assert!(Feedback::of(&moments(&[f32::NAN; 33], 33)).is_none());
    }
}
