//! Linear layers, and the low-rank side path that an adapter adds to one.
//!
//! The side path is `y = x·Wᵀ + s·(drop(x)·Aᵀ)·Bᵀ` (E. Hu and others, «LoRA», 2021, arXiv 2106.09685). With a magnitude it is
//! DoRA (S. Liu and others, 2024, arXiv 2402.09353): each output is scaled by `m / ‖row of W + s·B·A‖`, where the norm counts as
//! a constant on the way back, as section 4.3 there proposes. `W + s·B·A` is never built.

use burn::tensor::Tensor;

use super::dropout::{Dropout, Site};
use crate::train::model::{Gradients, ParameterId, Parameters};

/// In which order a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[out, in]`
    OutIn,
    /// `[in, out]`, as GPT-2's Conv1D.
    InOut,
}

/// What the linear layers of a batch share.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// All parameters of the model.
    pub parameters: &'a Parameters,
    /// This batch's masks.
    pub dropout: Dropout,
}

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The module's Hugging Face name, such as `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// The weight.
    pub weight: ParameterId,
    /// The weight's order.
    pub layout: WeightLayout,
    /// `[out]`
    pub bias: Option<ParameterId>,
    /// The side path.
    pub adapter: Option<LowRank>,
    /// Where its dropout masks come from.
    pub site: Site,
}

/// The side path of an adapted layer.
#[derive(Debug, Clone)]
pub struct LowRank {
    /// `[rank, in]`
    pub a: ParameterId,
    /// `[out, rank]`
    pub b: ParameterId,
    /// DoRA's length of each output row, `[out]`.
    pub magnitude: Option<ParameterId>,
    /// DoRA's squared length of each row of the frozen weight, `[1, out]`.
    pub base_squares: Option<Tensor<2>>,
    /// What `B·A` is multiplied by.
    pub scale: f32,
    /// Share of the side path's inputs that is dropped.
    pub dropout: f32,
}

/// What a linear layer keeps for the way back.
#[derive(Debug, Default)]
pub struct LinearKept {
    /// `s·drop(x)·Aᵀ`, `[rows, rank]`
    down: Option<Tensor<2>>,
    /// DoRA's outputs before they are scaled, `[rows, out]`, and one over the rows' lengths, `[1, out]`.
    unscaled: Option<(Tensor<2>, Tensor<2>)>,
}

impl Linear {
    /// `[rows, out]` from `x`, `[rows, in]`.
    pub fn forward(&self, context: Context, x: &Tensor<2>) -> (Tensor<2>, LinearKept) {
        let Context {
            parameters,
            dropout,
        } = context;
        let mut kept = LinearKept::default();
        let mut y = parameters.product(x.clone(), self.weight_in_out(parameters));
        if let Some(adapter) = &self.adapter {
            let dropped = match self.mask(adapter, x, dropout) {
                Some(mask) => x.clone() * mask,
                None => x.clone(),
            };
            let a = parameters[adapter.a].value().clone();
            let b = parameters[adapter.b].value().clone();
            let down = parameters.product(dropped, a.transpose()) * adapter.scale;
            y = y + parameters.product(down.clone(), b.transpose());
            kept.down = Some(down);
            if let Some(magnitude) = adapter.magnitude {
                let inverse = self.inverse_lengths(parameters, adapter);
                let gain = parameters[magnitude].value().clone() * inverse.clone();
                kept.unscaled = Some((y.clone(), inverse));
                y = y * gain;
            }
        }
        if let Some(bias) = self.bias {
            y = y + parameters[bias].value().clone();
        }
        (y, kept)
    }

    /// The gradient of the input from that of the output, `dy`; `None` unless `wanted`.
    pub fn backward(
        &self,
        context: Context,
        x: &Tensor<2>,
        kept: LinearKept,
        mut dy: Tensor<2>,
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Option<Tensor<2>> {
        let Context {
            parameters,
            dropout,
        } = context;
        if let Some(bias) = self.bias
            && parameters[bias].is_trainable()
        {
            gradients.add(bias, dy.clone().sum_dim(0));
        }
        if let (Some(magnitude), Some((unscaled, inverse))) = (
            self.adapter.as_ref().and_then(|adapter| adapter.magnitude),
            kept.unscaled,
        ) {
            let gain = parameters[magnitude].value().clone() * inverse.clone();
            gradients.add(magnitude, (dy.clone() * unscaled).sum_dim(0) * inverse);
            dy = dy * gain;
        }
        if parameters[self.weight].is_trainable() {
            let gradient = match self.layout {
                WeightLayout::OutIn => parameters.product(dy.clone().transpose(), x.clone()),
                WeightLayout::InOut => parameters.product(x.clone().transpose(), dy.clone()),
            };
            gradients.add(self.weight, gradient);
        }
        let mut dx = wanted.then(|| {
            let weight = self.weight_in_out(parameters).transpose();
            parameters.product(dy.clone(), weight)
        });
        if let (Some(adapter), Some(down)) = (&self.adapter, kept.down) {
            let b = parameters[adapter.b].value().clone();
            let ddown = parameters.product(dy.clone(), b) * adapter.scale;
            gradients.add(adapter.b, parameters.product(dy.transpose(), down));
            let mask = self.mask(adapter, x, dropout);
            let dropped = match &mask {
                Some(mask) => x.clone() * mask.clone(),
                None => x.clone(),
            };
            gradients.add(
                adapter.a,
                parameters.product(ddown.clone().transpose(), dropped),
            );
            dx = dx.map(|dx| {
                let side = parameters.product(ddown, parameters[adapter.a].value().clone());
                match mask {
                    Some(mask) => dx + side * mask,
                    None => dx + side,
                }
            });
        }
        dx
    }

    /// The weight with its adapter merged, in its own order.
    pub fn merged(&self, parameters: &Parameters) -> Tensor<2> {
        let mut weight = self.weight_in_out(parameters).transpose();
        if let Some(adapter) = &self.adapter {
            let a = parameters[adapter.a].value().clone();
            let b = parameters[adapter.b].value().clone();
            weight = weight + b.matmul(a) * adapter.scale;
            if let Some(magnitude) = adapter.magnitude {
                let gain = parameters[magnitude].value().clone();
                let gain = gain * self.inverse_lengths(parameters, adapter);
                weight = weight * gain.transpose();
            }
        }
        match self.layout {
            WeightLayout::OutIn => weight,
            WeightLayout::InOut => weight.transpose(),
        }
    }

    /// The weight as `[in, out]`, whatever its order.
    fn weight_in_out(&self, parameters: &Parameters) -> Tensor<2> {
        let weight = parameters[self.weight].value().clone();
        match self.layout {
            WeightLayout::OutIn => weight.transpose(),
            WeightLayout::InOut => weight,
        }
    }

    fn mask(&self, adapter: &LowRank, x: &Tensor<2>, dropout: Dropout) -> Option<Tensor<2>> {
        dropout.mask(self.site, adapter.dropout, x.dims(), &x.device())
    }

    /// One over the length of each row of `W + s·B·A`, `[1, out]`: `‖w + d‖² = ‖w‖² + 2·w·d + ‖d‖²` with `d = s·B·A`.
    fn inverse_lengths(&self, parameters: &Parameters, adapter: &LowRank) -> Tensor<2> {
        let a = parameters[adapter.a].value().clone();
        let b = parameters[adapter.b].value().clone() * adapter.scale;
        let cross = self
            .weight_in_out(parameters)
            .transpose()
            .matmul(a.clone().transpose());
        let inner = a.clone().matmul(a.transpose());
        let change = (b.clone() * (cross * 2.0 + b.matmul(inner))).sum_dim(1);
        let squares = match &adapter.base_squares {
            Some(squares) => squares.clone(),
            None => self.base_squares(parameters),
        };
        (squares + change.transpose()).sqrt().recip()
    }

    /// The squared length of each row of the weight, `[1, out]`.
    pub fn base_squares(&self, parameters: &Parameters) -> Tensor<2> {
        self.weight_in_out(parameters).square().sum_dim(0)
    }
}
