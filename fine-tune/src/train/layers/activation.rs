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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Both ways through the layer, gated and not, against burn's automatic differentiation.
    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let values = |seed: usize| {
            let list: Vec<f32> = (0..60)
                .map(|i| ((i * 53 + seed * 31) % 97) as f32 / 16.0 - 3.0)
                .collect();
            TensorData::new(list, [4, 15])
        };
        let (plain, taped) = (Device::flex(), Device::flex().autodiff());
        for activation in [
            Activation::Silu,
            Activation::GeluTanh,
            Activation::GeluErf,
            Activation::Relu,
        ] {
            for gated in [true, false] {
                let mlp = Mlp { activation };
                let leaf = |seed| Tensor::<2>::from_data(values(seed), &taped).require_grad();
                let (gate, up) = (leaf(1), leaf(2));
                let by = Tensor::<2>::from_data(values(3), &taped);
                let y = if gated {
                    mlp.value(gate.clone()) * up.clone()
                } else {
                    mlp.value(up.clone())
                };
                let tape = (y.clone() * by).sum().backward();

                let own = |seed| Tensor::<2>::from_data(values(seed), &plain);
                let (mut own_gate, mut own_up) = (gated.then(|| own(1)), own(2));
                let own_y = mlp.forward(own_gate.as_mut(), &mut own_up);
                let (dgate, dup) = mlp.backward(own_gate, own_up, own(3));
                let close = |found: Tensor<2>, wanted: Tensor<2>| {
                    let apart: f32 = (found - wanted).abs().max().into_scalar();
                    assert!(apart < 1e-5, "{activation:?}, gated {gated}: {apart}");
                };
                close(own_y, y.inner());
                close(dup, up.grad(&tape).unwrap());
                if let Some(dgate) = dgate {
                    close(dgate, gate.grad(&tape).unwrap());
                }
            }
        }
    }
}
