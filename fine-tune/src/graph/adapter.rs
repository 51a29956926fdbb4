//! Slots for adapters: beside a linear layer a path `x · A · B`, whose factors are inputs of the graph.
//!
//! The inputs have defaults of rank 0, with which the path adds zeros: a graph with slots is the base model until somebody fills
//! them. That is plain ONNX (an initialiser that is also an input), and what ONNX Runtime's `LoraAdapter`
//! fills by name.

use std::collections::BTreeMap;

use super::Exporter;
use crate::error::Result;
use crate::onnx::{Attribute, Dim, Element, Value};

/// The modules that have a slot, with their inputs and outputs.
pub type Slots = BTreeMap<String, (usize, usize)>;

/// Names of the inputs that a module's slot takes: `[in, rank]` and `[rank, out]`.
pub fn input_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("{module}.lora_{factor}.weight"))
}

impl Exporter<'_> {
    /// `product`, which is the module's of `x`, and what an adapter adds to it, if the module has a slot.
    pub(super) fn adapted(&mut self, module: &str, x: &Value, product: Value) -> Result<Value> {
        let Some(change) = self.change(module, x)? else {
            return Ok(product);
        };
        Ok(self.add(&format!("{module}.adapted"), &product, &change))
    }

    /// As [`Exporter::adapted`], of equal parts of the module's outputs.
    pub(super) fn adapted_parts<const N: usize>(
        &mut self,
        module: &str,
        x: &Value,
        products: [Value; N],
    ) -> Result<[Value; N]> {
        let Some(change) = self.change(module, x)? else {
            return Ok(products);
        };
        let names: Vec<String> = (0..N)
            .map(|part| format!("{module}.change.{part}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let attributes = [
            Attribute::int("axis", -1),
            Attribute::int("num_outputs", N as i64),
        ];
        let name = format!("{module}.change.parts");
        let inputs = [Some(&change)];
        let mut changes = self
            .graph
            .node("", "Split", &name, &inputs, &names, &attributes)
            .into_iter();
        Ok(products.map(|product| match changes.next() {
            Some(change) => self.add(&format!("{}.adapted", product.name()), &product, &change),
            None => product,
        }))
    }

    /// What an adapter adds to the module's product; none if it has no slot.
    pub(super) fn change(&mut self, module: &str, x: &Value) -> Result<Option<Value>> {
        let Some(&(input, output)) = self.slots.get(module) else {
            return Ok(None);
        };
        let [a, b] = input_names(module);
        let a = self.slot(&a, [Dim::Size(input), Dim::Own], [input, 0])?;
        let b = self.slot(&b, [Dim::Own, Dim::Size(output)], [0, output])?;
        let hidden = self
            .graph
            .op("MatMul", &format!("{module}.lora_A"), &[x, &a], &[]);
        let change = self
            .graph
            .op("MatMul", &format!("{module}.lora_B"), &[&hidden, &b], &[]);
        Ok(Some(change))
    }

    fn slot(&mut self, name: &str, shape: [Dim; 2], default: [usize; 2]) -> Result<Value> {
        self.graph.input(name, Element::F32, &shape);
        Ok(self.graph.constant_f32(name, &default, &[])?)
    }
}
