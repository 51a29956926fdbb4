//! The steps of a transformer layer backwards, for training on a host: each takes the gradient of a step's result and gives
//! that of its inputs.
//!
//! Like the steps themselves they work on rows that the caller hands out to its threads, and add in one order on every
//! instruction set.

use crate::math::{LANES, exp, sqrt, sum_lanes};
use crate::vector::for_each_isa;
use crate::{Error, Isa, Operand, argmax, softmax};

/// Backwards through `softmax(scale · scores)` of one row: `gradient` goes from that of the probabilities to that of the scores,
/// in place.
///
/// # Errors
/// [`Error::Length`] when the lengths differ.
pub fn softmax(
    isa: Isa,
    probabilities: &[f32],
    scale: f32,
    gradient: &mut [f32],
) -> Result<(), Error> {
    if probabilities.len() != gradient.len() {
        return Err(Error::Length(Operand::Input));
    }
    let along = dot(isa, probabilities, gradient);
    softmax_loop(isa, probabilities, along, scale, gradient);
    Ok(())
}

/// Backwards through `silu(gate) · up`, value by value: `gate` and `up` become their own gradients, from that of the result.
///
/// # Errors
/// [`Error::Length`] when the lengths differ.
pub fn silu_mul(isa: Isa, gate: &mut [f32], up: &mut [f32], gradient: &[f32]) -> Result<(), Error> {
    if gate.len() != gradient.len() || up.len() != gradient.len() {
        return Err(Error::Length(Operand::Input));
    }
    silu_mul_loop(isa, gate, up, gradient);
    Ok(())
}

/// Backwards through RMS normalisation of rows `x`, `[rows, weight.len()]`: `gradient` goes from that of the result to that of
/// `x`, in place, and that of the weight is added to `weight_gradient`, unless this is empty.
///
/// # Errors
/// [`Error::Length`] when `x` is not a whole number of rows, or another length doesn't match.
pub fn rms_norm(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &mut [f32],
    weight_gradient: &mut [f32],
) -> Result<(), Error> {
    check(x, weight, gradient)?;
    if !weight_gradient.is_empty() && weight_gradient.len() != weight.len() {
        return Err(Error::Length(Operand::Parameters));
    }
    let rows = x.chunks_exact(weight.len());
    for (x, gradient) in rows.zip(gradient.chunks_exact_mut(weight.len())) {
        rms_norm_row(isa, x, weight, epsilon, gradient, weight_gradient);
    }
    Ok(())
}

/// Backwards through layer normalisation of rows `x`, `[rows, weight.len()]`: `gradient` goes from that of the result to that of
/// `x`, in place, and those of weight and bias are added to the other two, unless these are empty.
///
/// # Errors
/// [`Error::Length`] when `x` is not a whole number of rows, or another length doesn't match.
pub fn layer_norm(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &mut [f32],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
) -> Result<(), Error> {
    check(x, weight, gradient)?;
    for sum in [&*weight_gradient, &*bias_gradient] {
        if !sum.is_empty() && sum.len() != weight.len() {
            return Err(Error::Length(Operand::Parameters));
        }
    }
    let rows = x.chunks_exact(weight.len());
    for (x, gradient) in rows.zip(gradient.chunks_exact_mut(weight.len())) {
        add(isa, gradient, bias_gradient);
        layer_norm_row(isa, x, weight, epsilon, gradient, weight_gradient);
    }
    Ok(())
}

/// The cross entropy of one row of logits, in nats, times `weight`; the row becomes the gradient of that.
///
/// # Errors
/// [`Error::Length`] when `target` is not below the number of logits.
pub fn cross_entropy(
    isa: Isa,
    logits: &mut [f32],
    target: usize,
    weight: f32,
) -> Result<f32, Error> {
    let wanted = *logits.get(target).ok_or(Error::Length(Operand::Input))?;
    let max = argmax::max(isa, logits);
    let total = softmax::exp_sum(isa, logits, max);
    softmax::scale(isa, logits, weight / total);
    if let Some(at) = logits.get_mut(target) {
        *at -= weight;
    }
    Ok(weight * (libm::logf(total) - (wanted - max)))
}

fn check(x: &[f32], weight: &[f32], gradient: &[f32]) -> Result<(), Error> {
    if weight.is_empty() {
        return Err(Error::Shape);
    }
    if !x.len().is_multiple_of(weight.len()) {
        return Err(Error::Length(Operand::Input));
    }
    if gradient.len() != x.len() {
        return Err(Error::Length(Operand::Output));
    }
    Ok(())
}

/// The sum of what `term` makes of the values of `a` and `b`, of equal length, in sixteen running sums.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += term(a, b);
    }
    sum_lanes(lanes)
}

for_each_isa! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum(a, b, |a, b| a * b)
    }
}

for_each_isa! {
    fn softmax_loop(probabilities: &[f32], along: f32, scale: f32, gradient: &mut [f32]) {
        for (gradient, &probability) in gradient.iter_mut().zip(probabilities) {
            *gradient = probability * (*gradient - along) * scale;
        }
    }
}

for_each_isa! {
    fn silu_mul_loop(gate: &mut [f32], up: &mut [f32], gradient: &[f32]) {
        for ((gate, up), &gradient) in gate.iter_mut().zip(up).zip(gradient) {
            let open = 1.0 / (1.0 + exp(-*gate));
            let silu = *gate * open;
            *gate = gradient * *up * (open + silu * (1.0 - open));
            *up = gradient * silu;
        }
    }
}

for_each_isa! {
    fn add(from: &[f32], to: &mut [f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

for_each_isa! {
    fn rms_norm_row(x: &[f32], weight: &[f32], epsilon: f32, gradient: &mut [f32], weight_gradient: &mut [f32]) {
        let count = x.len() as f32;
        let factor = 1.0 / sqrt(sum(x, x, |a, b| a * b) / count + epsilon);
        for ((sum, &gradient), &x) in weight_gradient.iter_mut().zip(&*gradient).zip(x) {
            *sum += gradient * (x * factor);
        }
        for (gradient, &weight) in gradient.iter_mut().zip(weight) {
            *gradient *= weight * factor;
        }
        let along = sum(gradient, x, |a, b| a * b) * factor * factor / count;
        for (gradient, &x) in gradient.iter_mut().zip(x) {
            *gradient -= x * along;
        }
    }
}

for_each_isa! {
    fn layer_norm_row(x: &[f32], weight: &[f32], epsilon: f32, gradient: &mut [f32], weight_gradient: &mut [f32]) {
        let count = x.len() as f32;
        let mean = sum(x, x, |a, _| a) / count;
        let variance = sum(x, x, |a, _| (a - mean) * (a - mean)) / count;
        let factor = 1.0 / sqrt(variance + epsilon);
        for ((sum, &gradient), &x) in weight_gradient.iter_mut().zip(&*gradient).zip(x) {
            *sum += gradient * ((x - mean) * factor);
        }
        for (gradient, &weight) in gradient.iter_mut().zip(weight) {
            *gradient *= weight * factor;
        }
        let middle = sum(gradient, x, |a, _| a) / count;
        let along = sum(gradient, x, |a, x| a * (x - mean)) * factor * factor / count;
        for (gradient, &x) in gradient.iter_mut().zip(x) {
            *gradient -= middle + (x - mean) * along;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MatrixMut, activation, norm};
    use std::vec;
    use std::vec::Vec;

    /// Values that look random, between -2 and 2.
    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 53 + seed * 31) % 97) as f32 / 24.0 - 2.0)
            .collect()
    }

    /// Checks a gradient against differences of `loss` where each value of `x` is moved a little.
    fn check(name: &str, x: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) {
        let step = 1e-2;
        for i in 0..x.len() {
            let at = |by: f32| {
                let mut moved = x.to_vec();
                moved[i] += by;
                loss(&moved)
            };
            // Fourth order, so that the step may be large beside the rounding of f32.
            let near = at(step) - at(-step);
            let far = at(2.0 * step) - at(-2.0 * step);
            let slope = (8.0 * near - far) / (12.0 * f64::from(step));
            let apart = (f64::from(gradient[i]) - slope).abs();
            assert!(apart < 2e-3, "{name} {i}: {} for {slope}", gradient[i]);
        }
    }

    /// The sum of products with `by`: a loss whose gradient is `by`.
    fn along(y: &[f32], by: &[f32]) -> f64 {
        y.iter()
            .zip(by)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    }

    #[test]
    fn gradients_are_those_of_the_steps_and_every_isa_agrees() {
        for len in [1, 7, 16, 37] {
            let (x, other, by) = (values(len, 1), values(len, 2), values(len, 3));
            for isa in Isa::available() {
                // Softmax.
                let probabilities = |x: &[f32]| {
                    let mut row: Vec<f32> = x.iter().map(|x| x * 0.5).collect();
                    crate::softmax::softmax(isa, &mut row);
                    row
                };
                let mut gradient = by.clone();
                softmax(isa, &probabilities(&x), 0.5, &mut gradient).unwrap();
                check("softmax", &x, &gradient, |x| along(&probabilities(x), &by));
                // SwiGLU.
                let gated = |gate: &[f32], up: &[f32]| {
                    let mut out = vec![0.0; len];
                    let rows = MatrixMut::new(&mut out, 1, len).unwrap();
                    activation::silu_mul(isa, gate, up, rows).unwrap();
                    out
                };
                let (mut gate, mut up) = (x.clone(), other.clone());
                silu_mul(isa, &mut gate, &mut up, &by).unwrap();
                check("gate", &x, &gate, |x| along(&gated(x, &other), &by));
                check("up", &other, &up, |up| along(&gated(&x, up), &by));
                // Norms.
                let normed = |x: &[f32], weight: &[f32]| {
                    let mut out = vec![0.0; len];
                    norm::rms_norm(isa, x, weight, 0.1, &mut out).unwrap();
                    out
                };
                let (mut dx, mut dw) = (by.clone(), vec![0.0; len]);
                rms_norm(isa, &x, &other, 0.1, &mut dx, &mut dw).unwrap();
                check("rms_norm", &x, &dx, |x| along(&normed(x, &other), &by));
                check("its weight", &other, &dw, |w| along(&normed(&x, w), &by));
                let normed = |x: &[f32], weight: &[f32], bias: &[f32]| {
                    let mut out = vec![0.0; len];
                    norm::layer_norm(isa, x, weight, Some(bias), 0.1, &mut out).unwrap();
                    out
                };
                let (mut dx, mut dw, mut db) = (by.clone(), vec![0.0; len], vec![0.0; len]);
                layer_norm(isa, &x, &other, 0.1, &mut dx, &mut dw, &mut db).unwrap();
                let of_x = |x: &[f32]| along(&normed(x, &other, &by), &by);
                check("layer_norm", &x, &dx, of_x);
                let of_weight = |w: &[f32]| along(&normed(&x, w, &by), &by);
                check("its weight", &other, &dw, of_weight);
                assert_eq!(db, by, "the bias's gradient");
                // Cross entropy.
                let loss = |x: &[f32]| {
                    f64::from(cross_entropy(isa, &mut x.to_vec(), len / 2, 0.7).unwrap())
                };
                let mut gradient = x.clone();
                cross_entropy(isa, &mut gradient, len / 2, 0.7).unwrap();
                check("cross entropy", &x, &gradient, loss);
            }
        }
    }

    #[test]
    fn every_isa_gives_the_same_bits() {
        let run = |isa| {
            let (mut a, mut b, mut c) = (values(333, 1), values(333, 2), values(333, 3));
            let (mut dw, mut db) = (vec![0.0; 37], vec![0.0; 37]);
            let weight = values(37, 4);
            rms_norm(isa, &a, &weight, 1e-5, &mut c, &mut dw).unwrap();
            layer_norm(isa, &a, &weight, 1e-5, &mut b, &mut dw, &mut db).unwrap();
            silu_mul(isa, &mut a, &mut b, &c).unwrap();
            softmax(isa, &a, 0.3, &mut c).unwrap();
            let loss = cross_entropy(isa, &mut b, 5, 1.5).unwrap();
            (a, b, c, dw, db, loss)
        };
        let scalar = run(Isa::SCALAR);
        for isa in Isa::available() {
            assert_eq!(run(isa), scalar, "{}", isa.name());
        }
    }

    #[test]
    fn lengths_that_do_not_match_are_refused() {
        let isa = Isa::SCALAR;
        let mut two = [0.0; 2];
        assert!(softmax(isa, &[0.0; 3], 1.0, &mut two).is_err());
        assert!(silu_mul(isa, &mut [0.0; 3], &mut two, &[0.0; 3]).is_err());
        assert!(rms_norm(isa, &[0.0; 3], &[0.0; 2], 1.0, &mut [0.0; 3], &mut []).is_err());
        assert!(rms_norm(isa, &[0.0; 4], &[0.0; 2], 1.0, &mut [0.0; 4], &mut [0.0]).is_err());
        assert!(cross_entropy(isa, &mut two, 2, 1.0).is_err());
    }
}
