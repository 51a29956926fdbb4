//! The feed-forward layer between its linear maps: an activation, in gated layers times a second branch.

use std::f64::consts::PI;

use burn::tensor::{Tensor, TensorData, activation};
use furlong_core::{Isa, MatrixMut, activation as kernel, gradient};
use rayon::prelude::*;

use super::host;
use crate::architecture::Activation;

/// Values that a thread takes at a time.
const PART: usize = 16 << 10;

/// `act(gate) * up`, or `act(up)` without a gate.
#[derive(Debug, Clone, Copy)]
pub struct Mlp {
    /// The activation.
    pub activation: Activation,
}

impl Mlp {
    /// The input of the last linear map, from the results of the first ones, `[rows, inner]` each, which are lent.
    pub fn forward(self, gate: Option<&mut Tensor<2>>, up: &mut Tensor<2>) -> Tensor<2> {
        match gate {
            Some(gate) if self.activation == Activation::Silu => match host::kernels_of(up) {
                Some(isa) => silu_mul(isa, gate, up),
                None => self.value(gate.clone()) * up.clone(),
            },
            Some(gate) => self.value(gate.clone()) * up.clone(),
            None => self.value(up.clone()),
        }
    }

    /// The gradients of gate and up from that of the result.
    pub fn backward(
        self,
        gate: Option<Tensor<2>>,
        up: Tensor<2>,
        dy: Tensor<2>,
    ) -> (Option<Tensor<2>>, Tensor<2>) {
        match gate {
            Some(gate)
                if self.activation == Activation::Silu && host::kernels_of(&up).is_some() =>
            {
                silu_mul_back(gate, up, dy)
            }
            Some(gate) => {
                let dup = dy.clone() * self.value(gate.clone());
                (Some(dy * up * self.slope(gate)), dup)
            }
            None => (None, dy * self.slope(up)),
        }
    }

    fn value(self, x: Tensor<2>) -> Tensor<2> {
        match self.activation {
            Activation::Silu => activation::silu(x),
            Activation::GeluTanh => activation::gelu_approximate(x),
            Activation::GeluErf => activation::gelu(x),
            Activation::Relu => activation::relu(x),
        }
    }

    /// The derivative of the activation.
    fn slope(self, x: Tensor<2>) -> Tensor<2> {
        match self.activation {
            Activation::Silu => {
                let gate = activation::sigmoid(x.clone());
                gate.clone() * (x * (gate.neg() + 1.0) + 1.0)
            }
            Activation::GeluTanh => {
                let (a, b) = ((2.0 / PI).sqrt(), 0.044715);
                let tanh = (x.clone() * a + x.clone().powi_scalar(3) * (a * b)).tanh();
                let inner = x.clone().square() * (3.0 * a * b) + a;
                let half = x * 0.5;
                half * (tanh.clone().square().neg() + 1.0) * inner + (tanh + 1.0) * 0.5
            }
            Activation::GeluErf => {
                let share = ((x.clone() / 2f64.sqrt()).erf() + 1.0) * 0.5;
                let density = (x.clone().square() * -0.5).exp() / (2.0 * PI).sqrt();
                share + x * density
            }
            Activation::Relu => x.greater_elem(0.0).float(),
        }
    }
}

fn silu_mul(isa: Isa, gate: &mut Tensor<2>, up: &mut Tensor<2>) -> Tensor<2> {
    let (dims, device) = (up.dims(), up.device());
    let mut y = vec![0.0; dims[0] * dims[1]];
    host::lend(gate, |gate| {
        host::lend(up, |up| {
            let parts = gate.par_chunks(PART).zip(up.par_chunks(PART));
            parts
                .zip(y.par_chunks_mut(PART))
                .for_each(|((gate, up), y)| {
                    let length = y.len();
                    let done = MatrixMut::new(y, 1, length)
                        .and_then(|y| kernel::silu_mul(isa, gate, up, y));
                    host::succeed(done);
                });
        });
    });
    Tensor::from_data(TensorData::new(y, dims), &device)
}

fn silu_mul_back(gate: Tensor<2>, up: Tensor<2>, dy: Tensor<2>) -> (Option<Tensor<2>>, Tensor<2>) {
    let device = up.device();
    let isa = Isa::detect();
    let [mut gate, mut up, dy] = [gate, up, dy].map(host::take);
    host::write(&mut gate)
        .par_chunks_mut(PART)
        .zip(host::write(&mut up).par_chunks_mut(PART))
        .zip(host::read(&dy).par_chunks(PART))
        .for_each(|((gate, up), dy)| {
            let done = gradient::silu_mul(isa, gate, up, dy);
            host::succeed(done);
        });
    let [gate, up] = [gate, up].map(|data| Tensor::from_data(data, &device));
    (Some(gate), up)
}
