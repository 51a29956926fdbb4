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
/// How many times wider than high a matrix has to be for its iteration to be cheaper on the products of its rows: in products
/// of `rows³`, five iterations cost `10·cols/rows + 5` on the matrix, and `2·cols/rows + 18` on them.
const WIDE: usize = 2;

impl Muon {
    /// The momentum after a gradient, and the direction that a step takes before it is made orthogonal.
    pub(super) fn direction(
        &self,
        gradient: Tensor<2>,
        momentum: Option<Tensor<2>>,
    ) -> (Tensor<2>, Tensor<2>) {
        let momentum = match momentum {
            Some(momentum) => momentum.mul_scalar(self.momentum) + gradient.clone(),
            None => gradient.clone(),
        };
        let direction = gradient + momentum.clone().mul_scalar(self.momentum);
        (momentum, direction)
    }

    /// A matrix after a step along an orthogonal `direction`; it also shrinks by `decay` × `rate`.
    pub(super) fn moved(
        value: Tensor<2>,
        direction: Tensor<2>,
        rate: f64,
        decay: f64,
    ) -> Tensor<2> {
        let [rows, cols] = value.dims();
        let length = RMS_OF_ADAMW * (rows.max(cols) as f64).sqrt();
        value.mul_scalar(1.0 - rate * decay) - direction.mul_scalar(rate * length)
    }
}

/// For each of several matrices of one shape the nearest one with orthogonal rows or columns, roughly: all singular values
/// become about 1. An adapter has hundreds of small matrices, which one by one would keep a device waiting.
pub(super) fn orthogonal(matrices: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    let stacked: Tensor<3> = Tensor::stack(matrices, 0);
    let [count, rows, cols] = stacked.dims();
    let tall = rows > cols;
    let x = if tall {
        stacked.swap_dims(1, 2)
    } else {
        stacked
    };
    let squares = x.clone().square().sum_dim(2).sum_dim(1);
    let x = x / squares.sqrt().clamp_min(LEAST_NORM);
    let [_, short, long] = x.dims();
    let x = if long >= WIDE * short {
        by_products_of_rows(x)
    } else {
        by_iterating(x)
    };
    let x = if tall { x.swap_dims(1, 2) } else { x };
    let one = |index| {
        let matrix = x.clone().slice([index..index + 1, 0..rows, 0..cols]);
        matrix.squeeze_dim::<2>(0)
    };
    (0..count).map(one).collect()
}

/// The iteration as it is defined: `X ← (a + b·G + c·G²)·X` with `G = X·Xᵀ`.
fn by_iterating(mut x: Tensor<3>) -> Tensor<3> {
    let (a, b, c) = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = x.clone().matmul(x.clone().swap_dims(1, 2));
        let polynomial = gram.clone().matmul(gram.clone()).mul_scalar(c) + gram.mul_scalar(b);
        x = polynomial.matmul(x.clone()) + x.mul_scalar(a);
    }
    x
}

/// The same on `G` alone: with `Q = a + b·G + c·G²` the next `G` is `Q·G·Q`, and what the iterations make of `X` is the product
/// of all `Q` times `X`. The factors of an adapter are many times wider than high.
fn by_products_of_rows(x: Tensor<3>) -> Tensor<3> {
    let (a, b, c) = COEFFICIENTS;
    let mut gram = x.clone().matmul(x.clone().swap_dims(1, 2));
    let identity = Tensor::<2>::eye(gram.dims()[1], &gram.device()).unsqueeze::<3>();
    let mut all = identity.clone();
    for iteration in 1..=ITERATIONS {
        let square = gram.clone().matmul(gram.clone()).mul_scalar(c);
        let q = square + gram.clone().mul_scalar(b) + identity.clone().mul_scalar(a);
        if iteration < ITERATIONS {
            gram = q.clone().matmul(gram).matmul(q.clone());
        }
        all = q.matmul(all);
    }
    all.matmul(x)
}
