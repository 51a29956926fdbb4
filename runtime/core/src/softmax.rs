//! Softmax of one row, in place.

use crate::math::{LANES, exp_sum_lanes, seldom_exp, sum_lanes};
use crate::vector::for_each_isa;
use crate::{Isa, argmax};

/// In place `e^(x - max) / Σ e^(x - max)`. An empty row stays empty; a row of `-∞` becomes zeros.
pub fn softmax(isa: Isa, row: &mut [f32]) {
    let max = argmax::max(isa, row);
    if max == f32::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    let total = exp_sum(isa, row, max);
    scale(isa, row, 1.0 / total);
}

for_each_isa! {
    /// Replaces each value by `e^(x - max)` and returns their sum.
    pub(crate) fn exp_sum(row: &mut [f32], max: f32) -> f32 {
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        exp_sum_lanes(chunks, max, &mut lanes);
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *x = seldom_exp(*x - max);
            *lane += *x;
        }
        sum_lanes(lanes)
    }
}

for_each_isa! {
    pub(crate) fn scale(row: &mut [f32], factor: f32) {
        for x in row {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn sums_to_one_and_every_isa_agrees() {
        for len in [1, 5, 16, 33, 400] {
            let x: Vec<f32> = (0..len)
                .map(|i| ((i * 53 % 97) as f32) * 0.2 - 3.0)
                .collect();
            let mut scalar = x.clone();
            softmax(Isa::SCALAR, &mut scalar);
            assert!((scalar.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            for isa in Isa::available() {
                let mut y = x.clone();
                softmax(isa, &mut y);
                assert_eq!(y, scalar, "{}", isa.name());
            }
        }
        let mut row = [f32::NEG_INFINITY; 3];
        softmax(Isa::SCALAR, &mut row);
        assert_eq!(row, [0.0; 3]);
        softmax(Isa::SCALAR, &mut []);
    }
}
