//! GELU by its standard op becomes our activation op.

use tract_onnx::pb::NodeProto;

use super::draft::Draft;
use super::node::{input, output, text};
use super::spec::{Activation, OpSpec};

/// Rewrites activations that stand by themselves.
pub(crate) fn rewrite(draft: &mut Draft) {
    for id in draft.ids() {
        let Some(node) = draft.node(id) else { continue };
        let Some(activation) = activation(node) else {
            continue;
        };
        let (Some(source), Some(result)) = (input(node, 0), output(node, 0)) else {
            continue;
        };
        let (source, result) = (source.to_owned(), result.to_owned());
        let name = if node.name.is_empty() {
            result.clone()
        } else {
            node.name.clone()
        };
        draft.replace(
            &[id],
            &name,
            OpSpec::Activation(activation),
            &[&source],
            &[&result],
        );
    }
}

fn activation(node: &NodeProto) -> Option<Activation> {
    match node.op_type.as_str() {
        "Gelu" => Some(match text(node, "approximate") {
            Some("tanh") => Activation::GeluTanh,
            _ => Activation::GeluErf,
        }),
        // FastGelu may add a bias before; then it is left to tract.
        "FastGelu" if input(node, 1).is_none() => Some(Activation::GeluTanh),
        _ => None,
    }
}
