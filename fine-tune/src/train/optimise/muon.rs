//! Muon: momentum whose direction is made orthogonal. K. Jordan and others, «Muon: An optimizer for hidden layers in neural
//! networks», 2024; the size of a step as in J. Liu and others, «Muon is Scalable for LLM Training», 2025, arXiv 2502.16982.

use burn::tensor::Tensor;

/// The rule's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// How much of past gradients is kept at each step (Nesterov's momentum).
    pub momentum: f64,
}

/// Coefficients of the quintic Newton–Schulz iteration, and how often it is done.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.775, 2.0315);
const ITERATIONS: usize = 5;
/// The least norm that a momentum is divided by.
const LEAST_NORM: f64 = 1e-7;
/// What makes a step as long as one of AdamW, so that the two can share a learning rate.
const RMS_OF_ADAMW: f64 = 0.2;

impl Muon {
    /// One step of a matrix `[rows, cols]`, which also shrinks by `decay` × `rate`.
    pub(super) fn step(
        &self,
        value: Tensor<2>,
        gradient: Tensor<2>,
        momentum: Option<Tensor<2>>,
        rate: f64,
        decay: f64,
    ) -> (Tensor<2>, Tensor<2>) {
        let momentum = match momentum {
            Some(momentum) => momentum.mul_scalar(self.momentum) + gradient.clone(),
            None => gradient.clone(),
        };
        let direction = gradient + momentum.clone().mul_scalar(self.momentum);
        let direction = orthogonal(direction);
        let [rows, cols] = value.dims();
        let length = RMS_OF_ADAMW * (rows.max(cols) as f64).sqrt();
        let change = direction.mul_scalar(rate * length);
        (value.mul_scalar(1.0 - rate * decay) - change, momentum)
    }
}

/// The nearest matrix with orthogonal rows or columns, roughly: all singular values become about 1.
fn orthogonal(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, cols] = matrix.dims();
    let tall = rows > cols;
    let mut x = if tall { matrix.transpose() } else { matrix };
    let squares = x.clone().square().sum_dim(1).sum_dim(0);
    x = x / squares.sqrt().clamp_min(LEAST_NORM);
    let (a, b, c) = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = x.clone().matmul(x.clone().transpose());
        let polynomial = gram.clone().matmul(gram.clone()).mul_scalar(c) + gram.mul_scalar(b);
        x = polynomial.matmul(x.clone()) + x.mul_scalar(a);
    }
    if tall { x.transpose() } else { x }
}
