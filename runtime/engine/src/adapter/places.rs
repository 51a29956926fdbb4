//! Where the linear layers of a model are, by the names that Hugging Face gives their modules.
//!
//! Our exports call nodes as the modules are called. ONNX Runtime GenAI and Optimum write them as paths,
//! `/model/layers.0/attn/q_proj/MatMul`; those are read too.

use std::ops::Range;

use crate::model::{Inner, Model, op};
use crate::ops::{GatedLinear, QuantLinear};
use crate::weights::PackedMatrix;

/// The module name of every decoder's output layer.
const HEAD: &str = "lm_head";

/// A layer of the model, as its op has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    /// The op's slot; none for the output layer.
    pub slot: Option<usize>,
    /// Inputs.
    pub cols: usize,
}

/// In the order of their slots; the output layer comes last.
impl Ord for Layer {
    fn cmp(&self, other: &Layer) -> std::cmp::Ordering {
        let key = |layer: &Layer| layer.slot.unwrap_or(usize::MAX);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Layer {
    fn partial_cmp(&self, other: &Layer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Some rows of one of a layer's matrices.
#[derive(Debug)]
pub(super) struct Place {
    pub layer: Layer,
    /// Which of its matrices.
    pub matrix: usize,
    /// Which rows of that.
    pub rows: Range<usize>,
}

/// The linear layers of a model.
#[derive(Debug)]
pub(super) struct Places {
    all: Vec<(String, Place)>,
}

impl Places {
    /// Those of a loaded model.
    pub(super) fn of(inner: &Inner) -> Places {
        let mut places = Places { all: Vec::new() };
        for (_, node) in Model::nodes(inner) {
            if let Some(linear) = op::<QuantLinear>(node) {
                places.add(Some(linear.slot()), linear.weights().matrices());
            }
            if let Some(gated) = op::<GatedLinear>(node) {
                places.add(Some(gated.slot()), gated.matrices());
            }
        }
        if let Some(head) = &inner.head {
            places.add(None, head.matrices());
        }
        places
    }

    fn add<'m>(
        &mut self,
        slot: Option<usize>,
        matrices: impl IntoIterator<Item = &'m PackedMatrix>,
    ) {
        for (index, matrix) in matrices.into_iter().enumerate() {
            let layer = Layer {
                slot,
                cols: matrix.cols(),
            };
            for part in matrix.parts() {
                let name = match slot {
                    Some(_) => module_of(&part.name),
                    None => HEAD.to_owned(),
                };
                let place = Place {
                    layer,
                    matrix: index,
                    rows: part.rows.clone(),
                };
                self.all.push((name, place));
            }
        }
    }

    /// The places of the module `name`: one, or several where the exporter cut it into parts (GPT-2's `c_attn` into
    /// `c_attn.q`, `.k`, `.v`); none if the model has no such module.
    pub(super) fn find(&self, name: &str) -> Vec<&Place> {
        // PEFT on a model without its head leaves the first word out.
        let names = ["", "model.", "transformer."].map(|prefix| format!("{prefix}{name}"));
        let whole = names.iter().find_map(|name| {
            let found = self.all.iter().find(|(module, _)| module == name);
            found.map(|(_, place)| vec![place])
        });
        whole.unwrap_or_else(|| {
            let is_part = |module: &str| {
                let parent = module.rsplit_once('.').map(|(parent, _)| parent);
                parent.is_some_and(|parent| names.iter().any(|name| name == parent))
            };
            let parts = self.all.iter().filter(|(module, _)| is_part(module));
            parts.map(|(_, place)| place).collect()
        })
    }

    /// Some of the names, for a message.
    pub(super) fn examples(&self) -> String {
        let some: Vec<&str> = self
            .all
            .iter()
            .take(3)
            .map(|(name, _)| name.as_str())
            .collect();
        match some.is_empty() {
            true => "none at all".to_owned(),
            false => format!("{}, …", some.join(", ")),
        }
    }
}

/// The module that a node is, by its name.
fn module_of(node: &str) -> String {
    let Some(path) = node.strip_prefix('/') else {
        return node.to_owned();
    };
    let module = match path.rsplit_once('/') {
        Some((module, last)) if last.starts_with("MatMul") || last.starts_with("Gemm") => module,
        _ => path,
    };
    let module = module.replace('/', ".");
    match module.starts_with("model.layers.") {
        true => module.replace(".attn.", ".self_attn."),
        false => module,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_other_exporters_are_known_by_their_modules() {
        for (node, module) in [
            ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
            (
                "/model/layers.3/attn/q_proj/MatMul",
                "model.layers.3.self_attn.q_proj",
            ),
            (
                "/model/layers.3/attn/q_proj/MatMul_Q4",
                "model.layers.3.self_attn.q_proj",
            ),
            (
                "/model/layers.3/self_attn/o_proj/MatMulNBits",
                "model.layers.3.self_attn.o_proj",
            ),
            (
                "/transformer/h.0/attn/c_proj/Gemm",
                "transformer.h.0.attn.c_proj",
            ),
        ] {
            assert_eq!(module_of(node), module);
        }
    }
}
