//! AdamW: I. Loshchilov, F. Hutter, «Decoupled Weight Decay Regularization», 2019, arXiv 1711.05101.

use burn::tensor::Tensor;

/// The rule's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// How much of the mean of past gradients is kept at each step.
    pub beta1: f64,
    /// How much of the mean of past squares is kept at each step.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
}

/// What the rule remembers of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Running mean of the gradients.
    pub mean: Tensor<2>,
    /// Running mean of their squares.
    pub square: Tensor<2>,
}

impl AdamW {
    /// One step, the `step`th from 1, of a parameter that also shrinks by `decay` × `rate`.
    pub(super) fn step(
        &self,
        value: Tensor<2>,
        gradient: Tensor<2>,
        moments: Option<Moments>,
        step: u64,
        rate: f64,
        decay: f64,
    ) -> (Tensor<2>, Moments) {
        let new_mean = gradient.clone().mul_scalar(1.0 - self.beta1);
        let new_square = gradient.square().mul_scalar(1.0 - self.beta2);
        let moments = match moments {
            Some(Moments { mean, square }) => Moments {
                mean: mean.mul_scalar(self.beta1) + new_mean,
                square: square.mul_scalar(self.beta2) + new_square,
            },
            None => Moments {
                mean: new_mean,
                square: new_square,
            },
        };
        let step = step.min(i32::MAX as u64) as i32;
        let (bias1, bias2) = (1.0 - self.beta1.powi(step), 1.0 - self.beta2.powi(step));
        // rate · (mean / bias1) / (√(square / bias2) + ε), with the constants drawn together.
        let root = moments.square.clone().sqrt().div_scalar(bias2.sqrt());
        let change = moments.mean.clone() / root.add_scalar(self.epsilon);
        let value = if decay == 0.0 {
            value
        } else {
            value.mul_scalar(1.0 - rate * decay)
        };
        (value - change.mul_scalar(rate / bias1), moments)
    }
}
