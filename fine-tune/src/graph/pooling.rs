//! From the tokens' states to one embedding of the sentence.

use super::Exporter;
use crate::architecture::{EncoderConfig, Pooling};
use crate::onnx::{Attribute, Element, Value};

/// Name of the output.
const OUTPUT: &str = "sentence_embedding";
/// Smallest divisors, as the reference has them: they only matter for empty sentences.
const LEAST_COUNT: f32 = 1e-9;
const LEAST_NORM: f32 = 1e-12;

impl Exporter<'_> {
    /// Pools the states `[batch, sequence, hidden]` over the tokens of the mask `[batch, sequence]` to
    /// `[batch, hidden]`, and normalises where the model says so. `None` when it has no pooling.
    pub(super) fn sentence_embedding(
        &mut self,
        config: &EncoderConfig,
        states: &Value,
        mask: &Value,
    ) -> Option<Value> {
        let name = if config.normalise {
            "sentence.pooled"
        } else {
            OUTPUT
        };
        let pooled = match config.pooling {
            Pooling::None => return None,
            Pooling::Mean => self.mean(name, states, mask),
            Pooling::Max => self.max(name, states, mask),
            Pooling::Cls => {
                let first = self.graph.integers(&[], &[0]);
                let axis = [Attribute::int("axis", 1)];
                self.graph.op("Gather", name, &[states, &first], &axis)
            }
        };
        Some(if config.normalise {
            self.normalised(&pooled)
        } else {
            pooled
        })
    }

    /// Mean over the kept tokens.
    fn mean(&mut self, name: &str, states: &Value, mask: &Value) -> Value {
        let keep = self.keep(mask);
        let kept = self.graph.op("Mul", "sentence.kept", &[states, &keep], &[]);
        let over_tokens = self.graph.integers(&[1], &[1]);
        let flat = [Attribute::int("keepdims", 0)];
        let sum = self
            .graph
            .op("ReduceSum", "sentence.sum", &[&kept, &over_tokens], &flat);
        let count = self
            .graph
            .op("ReduceSum", "sentence.count", &[&keep, &over_tokens], &flat);
        let least = self.graph.scalar(LEAST_COUNT);
        let count = self
            .graph
            .op("Max", "sentence.divisor", &[&count, &least], &[]);
        self.graph.op("Div", name, &[&sum, &count], &[])
    }

    /// Maximum over the kept tokens: dropped ones are pushed far down first.
    fn max(&mut self, name: &str, states: &Value, mask: &Value) -> Value {
        let keep = self.keep(mask);
        let one = self.graph.scalar(1.0);
        let drop = self.graph.op("Sub", "sentence.drop", &[&one, &keep], &[]);
        let far = self.graph.scalar(1e9);
        let penalty = self
            .graph
            .op("Mul", "sentence.penalty", &[&drop, &far], &[]);
        let kept = self
            .graph
            .op("Sub", "sentence.kept", &[states, &penalty], &[]);
        let over_tokens = self.graph.integers(&[1], &[1]);
        let flat = [Attribute::int("keepdims", 0)];
        self.graph
            .op("ReduceMax", name, &[&kept, &over_tokens], &flat)
    }

    /// The mask as floats `[batch, sequence, 1]`.
    fn keep(&mut self, mask: &Value) -> Value {
        let to = Attribute::int("to", i64::from(Element::F32.code()));
        let keep = self.graph.op("Cast", "sentence.mask", &[mask], &[to]);
        let last = self.graph.integers(&[1], &[-1]);
        self.graph
            .op("Unsqueeze", "sentence.keep", &[&keep, &last], &[])
    }

    /// Divides by the Euclidean norm.
    fn normalised(&mut self, pooled: &Value) -> Value {
        let last = self.graph.integers(&[1], &[-1]);
        let keep = [Attribute::int("keepdims", 1)];
        let norm = self
            .graph
            .op("ReduceL2", "sentence.norm", &[pooled, &last], &keep);
        let least = self.graph.scalar(LEAST_NORM);
        let norm = self
            .graph
            .op("Max", "sentence.norm_divisor", &[&norm, &least], &[]);
        self.graph.op("Div", OUTPUT, &[pooled, &norm], &[])
    }
}
