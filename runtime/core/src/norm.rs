//! Root-mean-square and layer normalisation, and the addition that comes before it.

use crate::math::{LANES, sqrt, sum_lanes};
use crate::pieces::{pieces, pieces_mut};
use crate::vector::for_each_isa;
use crate::{Error, Isa, Operand};

/// Values that a turn of a loop takes.
const STEP: usize = 2 * LANES;

/// RMS normalisation of each row: `y = x / sqrt(mean(x²) + epsilon) * weight`.
///
/// `x` and `out` are `[rows, weight.len()]`. B. Zhang and R. Sennrich, «Root Mean Square Layer
/// Normalization», 2019, arXiv 1910.07467.
///
/// # Errors
/// [`Error::Length`] when `x` is not a whole number of rows or `out` has another length.
pub fn rms_norm(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    out: &mut [f32],
) -> Result<(), Error> {
    check(x, weight.len(), out)?;
    for (x, out) in pieces(x, weight.len()).zip(pieces_mut(out, weight.len())) {
        rms_norm_row(isa, x, weight, epsilon, out);
    }
    Ok(())
}

/// [`rms_norm`] of one row in place.
///
/// # Errors
/// [`Error::Length`] when `x` and `weight` differ.
pub fn rms_norm_in_place(
    isa: Isa,
    x: &mut [f32],
    weight: &[f32],
    epsilon: f32,
) -> Result<(), Error> {
    if x.is_empty() || x.len() != weight.len() {
        return Err(Error::Length(Operand::Parameters));
    }
    rms_norm_own_row(isa, x, weight, epsilon);
    Ok(())
}

/// Layer normalisation of each row: `y = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias`.
///
/// `x` and `out` are `[rows, weight.len()]`; without `bias` nothing is added. The variance is taken about
/// the mean, in a second pass. J. L. Ba and others, «Layer Normalization», 2016, arXiv 1607.06450.
///
/// # Errors
/// [`Error::Length`] when `x` is not a whole number of rows, or `out` or `bias` has another length.
pub fn layer_norm(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
    out: &mut [f32],
) -> Result<(), Error> {
    check(x, weight.len(), out)?;
    if bias.is_some_and(|bias| bias.len() != weight.len()) {
        return Err(Error::Length(Operand::Parameters));
    }
    for (x, out) in pieces(x, weight.len()).zip(pieces_mut(out, weight.len())) {
        layer_norm_row(isa, x, weight, epsilon, out);
        if let Some(bias) = bias {
            add_loop(isa, out, bias);
        }
    }
    Ok(())
}

/// In place `y + x`: residuals and biases.
///
/// # Errors
/// [`Error::Length`] when the lengths differ.
pub fn add(isa: Isa, y: &mut [f32], x: &[f32]) -> Result<(), Error> {
    if y.len() != x.len() {
        return Err(Error::Length(Operand::Input));
    }
    add_loop(isa, y, x);
    Ok(())
}

fn check(x: &[f32], columns: usize, out: &[f32]) -> Result<(), Error> {
    if columns == 0 {
        return Err(Error::Shape);
    }
    if !x.len().is_multiple_of(columns) {
        return Err(Error::Length(Operand::Input));
    }
    if out.len() != x.len() {
        return Err(Error::Length(Operand::Output));
    }
    Ok(())
}

/// Sums `term(x)` in sixteen running sums.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (steps, rest) = x.as_chunks::<STEP>();
    for step in steps {
        for chunk in step.as_chunks::<LANES>().0 {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += term(value);
            }
        }
    }
    for chunk in rest.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value);
        }
    }
    sum_lanes(lanes)
}

/// Calls `step(y, a, b)` with each value of `y` and those of `a` and `b` beside it, [`STEP`] values a turn of the loop: fewer
/// turns than the compiler makes by itself.
#[inline(always)]
fn each(y: &mut [f32], a: &[f32], b: &[f32], step: impl Fn(&mut f32, f32, f32)) {
    let (ys, y_rest) = y.as_chunks_mut::<STEP>();
    let (a_chunks, a_rest) = a.as_chunks::<STEP>();
    let (b_chunks, b_rest) = b.as_chunks::<STEP>();
    for ((y, a), b) in ys.iter_mut().zip(a_chunks).zip(b_chunks) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            step(y, a, b);
        }
    }
    for ((y, &a), &b) in y_rest.iter_mut().zip(a_rest).zip(b_rest) {
        step(y, a, b);
    }
}

for_each_isa! {
    fn add_loop(y: &mut [f32], x: &[f32]) {
        each(y, x, x, |y, x, _| *y += x);
    }
}

/// What RMS normalisation multiplies a row by. On microcontrollers one function for its callers, where flash is dear.
#[cfg_attr(target_arch = "arm", inline(never))]
#[cfg_attr(not(target_arch = "arm"), inline(always))]
fn rms_factor(x: &[f32], epsilon: f32) -> f32 {
    let mean = sum(x, |value| value * value) / x.len() as f32;
    1.0 / sqrt(mean + epsilon)
}

for_each_isa! {
    fn rms_norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let factor = rms_factor(x, epsilon);
        each(out, x, weight, |y, x, w| *y = x * factor * w);
    }
}

for_each_isa! {
    fn rms_norm_own_row(x: &mut [f32], weight: &[f32], epsilon: f32) {
        let factor = rms_factor(x, epsilon);
        each(x, weight, weight, |x, w, _| *x = *x * factor * w);
    }
}

for_each_isa! {
    fn layer_norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let mean = sum(x, |value| value) / x.len() as f32;
        let variance = sum(x, |value| (value - mean) * (value - mean)) / x.len() as f32;
        let factor = 1.0 / sqrt(variance + epsilon);
        each(out, x, weight, |y, x, w| *y = (x - mean) * factor * w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn matches_the_formula_and_every_isa_agrees() {
        for columns in [1, 3, 16, 37, 576] {
            let x: Vec<f32> = (0..2 * columns)
                .map(|i| ((i * 37 % 101) as f32 - 47.0) * 0.03)
                .collect();
            let weight: Vec<f32> = (0..columns).map(|i| 1.0 + i as f32 * 0.01).collect();
            let bias: Vec<f32> = (0..columns).map(|i| i as f32 * 0.1).collect();
            let mut rms = std::vec![0.0; x.len()];
            let mut layer = std::vec![0.0; x.len()];
            rms_norm(Isa::SCALAR, &x, &weight, 1e-5, &mut rms).unwrap();
            layer_norm(Isa::SCALAR, &x, &weight, Some(&bias), 1e-5, &mut layer).unwrap();
            for (row, x) in x.chunks(columns).enumerate() {
                let n = columns as f64;
                let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
                let square = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
                let variance = x
                    .iter()
                    .map(|&v| (f64::from(v) - mean).powi(2))
                    .sum::<f64>()
                    / n;
                for i in 0..columns {
                    let want = f64::from(x[i]) / (square + 1e-5).sqrt() * f64::from(weight[i]);
                    assert!((f64::from(rms[row * columns + i]) - want).abs() < 1e-4);
                    let want = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt()
                        * f64::from(weight[i])
                        + f64::from(bias[i]);
                    assert!((f64::from(layer[row * columns + i]) - want).abs() < 1e-4);
                }
            }
            for isa in Isa::available() {
                let mut out = std::vec![0.0; x.len()];
                rms_norm(isa, &x, &weight, 1e-5, &mut out).unwrap();
                assert_eq!(out, rms, "{}", isa.name());
                out.copy_from_slice(&x);
                for row in out.chunks_mut(columns) {
                    rms_norm_in_place(isa, row, &weight, 1e-5).unwrap();
                }
                assert_eq!(out, rms, "{}", isa.name());
                layer_norm(isa, &x, &weight, Some(&bias), 1e-5, &mut out).unwrap();
                assert_eq!(out, layer, "{}", isa.name());
            }
        }
    }

    #[test]
    fn refuses_wrong_lengths() {
        let mut out = [0.0; 4];
        assert!(rms_norm(Isa::SCALAR, &[0.0; 4], &[], 1e-5, &mut out).is_err());
        assert!(rms_norm(Isa::SCALAR, &[0.0; 5], &[1.0; 2], 1e-5, &mut out).is_err());
        assert!(
            layer_norm(
                Isa::SCALAR,
                &[0.0; 4],
                &[1.0; 2],
                Some(&[1.0]),
                1e-5,
                &mut out
            )
            .is_err()
        );
    }
}
