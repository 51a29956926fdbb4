//! RMSNorm and LayerNorm over the width of each row.

use burn::tensor::{Tensor, TensorData};
use furlong_core::{Isa, gradient, norm};

use super::host;
use crate::train::model::{Gradients, ParameterId, Parameters};

/// A norm with its parameters.
#[derive(Debug, Clone, Copy)]
pub enum Norm {
    /// `x / sqrt(mean(x²) + eps) · weight`: B. Zhang, R. Sennrich, «Root Mean Square Layer Normalization», 2019.
    Rms {
        /// `[width]`
        weight: ParameterId,
        /// What is added to the mean square.
        eps: f32,
    },
    /// `(x − mean) / sqrt(variance + eps) · weight + bias`.
    Layer {
        /// `[width]`
        weight: ParameterId,
        /// `[width]`
        bias: ParameterId,
        /// What is added to the variance.
        eps: f32,
    },
}

impl Norm {
    /// The normed rows of `x`, `[rows, width]`, which is lent.
    pub fn forward(self, parameters: &Parameters, x: &mut Tensor<2>) -> Tensor<2> {
        if let Some(isa) = host::kernels_of(x) {
            return self.forward_on_host(isa, parameters, x);
        }
        let (unit, _) = self.unit(x.clone());
        match self {
            Norm::Rms { weight, .. } => unit * parameters[weight].value().clone(),
            Norm::Layer { weight, bias, .. } => {
                unit * parameters[weight].value().clone() + parameters[bias].value().clone()
            }
        }
    }

    /// The gradient of the input `x`, which is lent, from that of the result, `dy`.
    pub fn backward(
        self,
        parameters: &Parameters,
        x: &mut Tensor<2>,
        dy: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        if let Some(isa) = host::kernels_of(x) {
            return self.backward_on_host(isa, parameters, x, dy, gradients);
        }
        let (unit, inverse) = self.unit(x.clone());
        let (Norm::Rms { weight, .. } | Norm::Layer { weight, .. }) = self;
        if parameters[weight].is_trainable() {
            gradients.add(weight, (dy.clone() * unit.clone()).sum_dim(0));
        }
        if let Norm::Layer { bias, .. } = self
            && parameters[bias].is_trainable()
        {
            gradients.add(bias, dy.clone().sum_dim(0));
        }
        let dunit = dy * parameters[weight].value().clone();
        let along = (dunit.clone() * unit.clone()).mean_dim(1);
        let dunit = match self {
            Norm::Rms { .. } => dunit,
            Norm::Layer { .. } => {
                let mean = dunit.clone().mean_dim(1);
                dunit - mean
            }
        };
        (dunit - unit * along) * inverse
    }

    /// The rows before weight and bias, and what they were multiplied by, `[rows, 1]`.
    fn unit(self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let (x, eps) = match self {
            Norm::Rms { eps, .. } => (x, eps),
            Norm::Layer { eps, .. } => {
                let mean = x.clone().mean_dim(1);
                (x - mean, eps)
            }
        };
        let inverse = (x.clone().square().mean_dim(1) + eps).sqrt().recip();
        (x * inverse.clone(), inverse)
    }

    fn forward_on_host(self, isa: Isa, parameters: &Parameters, x: &mut Tensor<2>) -> Tensor<2> {
        let (dims, device) = (x.dims(), x.device());
        let width = dims[1];
        let (Norm::Rms { weight, .. } | Norm::Layer { weight, .. }) = self;
        let weight = parameters[weight].to_vec();
        let bias = match self {
            Norm::Rms { .. } => None,
            Norm::Layer { bias, .. } => Some(parameters[bias].to_vec()),
        };
        let mut y = vec![0.0; dims[0] * width];
        host::lend(x, |x| {
            host::each_part(&mut y, width, |first, y| {
                let x = host::beside(x, first, width, y);
                let done = match self {
                    Norm::Rms { eps, .. } => norm::rms_norm(isa, x, &weight, eps, y),
                    Norm::Layer { eps, .. } => {
                        norm::layer_norm(isa, x, &weight, bias.as_deref(), eps, y)
                    }
                };
                host::succeed(done);
            });
        });
        Tensor::from_data(TensorData::new(y, dims), &device)
    }

    fn backward_on_host(
        self,
        isa: Isa,
        parameters: &Parameters,
        x: &mut Tensor<2>,
        dy: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let device = x.device();
        let width = x.dims()[1];
        let (Norm::Rms { weight, .. } | Norm::Layer { weight, .. }) = self;
        let values = parameters[weight].to_vec();
        // Sums of the weight's gradient, then of the bias's, where they are trained.
        let trained = |id: ParameterId| usize::from(parameters[id].is_trainable()) * width;
        let (of_weight, of_bias) = match self {
            Norm::Rms { weight, .. } => (trained(weight), 0),
            Norm::Layer { weight, bias, .. } => (trained(weight), trained(bias)),
        };
        let mut dx = host::take(dy);
        let mut sums = host::lend(x, |x| {
            let sums = of_weight + of_bias;
            host::each_part_summed(host::write(&mut dx), width, sums, |first, dx, sums| {
                let x = host::beside(x, first, width, dx);
                let (dw, db) = sums.split_at_mut(of_weight);
                let done = match self {
                    Norm::Rms { eps, .. } => gradient::rms_norm(isa, x, &values, eps, dx, dw),
                    Norm::Layer { eps, .. } => {
                        gradient::layer_norm(isa, x, &values, eps, dx, dw, db)
                    }
                };
                host::succeed(done);
            })
        });
        if let Norm::Layer { bias, .. } = self
            && of_bias > 0
        {
            let sums = TensorData::new(sums.split_off(of_weight), [1, width]);
            gradients.add(bias, Tensor::from_data(sums, &device));
        }
        if of_weight > 0 {
            let sums = TensorData::new(sums, [1, width]);
            gradients.add(weight, Tensor::from_data(sums, &device));
        }
        Tensor::from_data(dx, &device)
    }
}
