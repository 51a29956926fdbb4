//! Norms and activations.

use super::Exporter;
use crate::architecture::Activation;
use crate::error::Result;
use crate::onnx::{Attribute, Value};

impl Exporter<'_> {
    /// Root-mean-square norm over the last dimension, with the module's weight.
    pub(super) fn rms_norm(&mut self, module: &str, x: &Value, eps: f32) -> Result<Value> {
        let weight = self.stored(&format!("{module}.weight"))?;
        let attributes = [Attribute::int("axis", -1), Attribute::float("epsilon", eps)];
        Ok(self
            .graph
            .op("RMSNormalization", module, &[x, &weight], &attributes))
    }

    /// Layer norm over the last dimension, with the module's weight and bias.
    pub(super) fn layer_norm(&mut self, module: &str, x: &Value, eps: f32) -> Result<Value> {
        self.layer_norm_named(module, module, x, eps)
    }

    /// The same, with a name for the result.
    pub(super) fn layer_norm_named(
        &mut self,
        name: &str,
        module: &str,
        x: &Value,
        eps: f32,
    ) -> Result<Value> {
        let weight = self.stored(&format!("{module}.weight"))?;
        let bias = self.stored(&format!("{module}.bias"))?;
        let attributes = [Attribute::int("axis", -1), Attribute::float("epsilon", eps)];
        Ok(self.graph.op(
            "LayerNormalization",
            name,
            &[x, &weight, &bias],
            &attributes,
        ))
    }

    /// An activation function.
    pub(super) fn activation(&mut self, name: &str, x: &Value, activation: Activation) -> Value {
        let gelu = |kind| [Attribute::string("approximate", kind)];
        match activation {
            Activation::Silu => {
                let sigmoid = self
                    .graph
                    .op("Sigmoid", &format!("{name}.sigmoid"), &[x], &[]);
                self.graph.op("Mul", name, &[x, &sigmoid], &[])
            }
            Activation::GeluTanh => self.graph.op("Gelu", name, &[x], &gelu("tanh")),
            Activation::GeluErf => self.graph.op("Gelu", name, &[x], &gelu("none")),
            Activation::Relu => self.graph.op("Relu", name, &[x], &[]),
        }
    }

    /// `a + b`.
    pub(super) fn add(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.graph.op("Add", name, &[a, b], &[])
    }
}
