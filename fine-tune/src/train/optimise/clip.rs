//! Bounds for the gradients of all parameters together. burn's own clipping looks at one tensor at a time.

use burn::tensor::Tensor;

use crate::train::model::Gradients;

/// The norm of all gradients as one vector. Waits for the device.
pub fn norm(gradients: &Gradients) -> f64 {
    // Row by row: the sum of a whole large tensor depends on which threads were free.
    let rows = gradients.iter().map(|(_, g)| g.clone().square().sum_dim(1));
    let rows: Vec<Tensor<2>> = rows.collect();
    if rows.is_empty() {
        return 0.0;
    }
    let rows = Tensor::cat(rows, 0).into_data();
    rows.iter::<f64>().sum::<f64>().sqrt()
}

/// Scales all gradients down so that their norm as one vector, `norm`, becomes at most `most`: R. Pascanu, T. Mikolov,
/// Y. Bengio, «On the difficulty of training recurrent neural networks», 2013, arXiv 1211.5063.
pub fn clip_norm(gradients: &mut Gradients, norm: f64, most: f64) {
    if norm > most {
        let scale = most / norm;
        gradients.map(|_, gradient| gradient.mul_scalar(scale));
    }
}

/// Bounds every element by `most` up and down.
pub fn clip_value(gradients: &mut Gradients, most: f64) {
    gradients.map(|_, gradient| gradient.clamp(-most, most));
}
