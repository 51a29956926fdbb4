//! `gate · sigmoid(gate) · up` (SwiGLU), and its GELU sibling, become one op with both layers in it.

use super::draft::{Draft, NodeId};
use super::node::{input, output};
use super::spec::{Activation, OpSpec};

/// The two layers of a gated feed-forward, and what joins them.
struct Found {
    gate: NodeId,
    up: NodeId,
    activation: Activation,
    joints: Vec<NodeId>,
    result: String,
}

/// Rewrites every gated pair of linear layers of the same format.
pub(crate) fn rewrite(draft: &mut Draft) {
    for id in draft.ids() {
        let Some(found) = silu(draft, id).or_else(|| gelu(draft, id)) else {
            continue;
        };
        replace(draft, found);
    }
}

fn silu(draft: &Draft, id: NodeId) -> Option<Found> {
    let sigmoid = draft.node(id).filter(|node| node.op_type == "Sigmoid")?;
    let value = input(sigmoid, 0)?;
    let (gate, _) = draft.producer(value)?;
    // The gate's output is read by the sigmoid and by the product, and by nothing else.
    if draft.is_output(value) || draft.consumers(value).len() != 2 {
        return None;
    }
    let (product, node) = draft.sole_consumer(output(sigmoid, 0)?)?;
    if node.op_type != "Mul" || !node.input.iter().any(|name| name == value) {
        return None;
    }
    joined(
        draft,
        gate,
        Activation::Silu,
        vec![id, product],
        output(node, 0)?,
    )
}

fn gelu(draft: &Draft, id: NodeId) -> Option<Found> {
    let Some(OpSpec::Activation(activation)) = draft.spec(id) else {
        return None;
    };
    let node = draft.node(id)?;
    let value = input(node, 0)?;
    let (gate, _) = draft.producer(value)?;
    draft.sole_consumer(value)?;
    joined(draft, gate, *activation, vec![id], output(node, 0)?)
}

/// Finds the product of the activated gate with the other layer.
fn joined(
    draft: &Draft,
    gate: NodeId,
    activation: Activation,
    mut joints: Vec<NodeId>,
    activated: &str,
) -> Option<Found> {
    let (product, node) = draft
        .sole_consumer(activated)
        .filter(|(_, node)| node.op_type == "Mul")?;
    let other = node.input.iter().find(|name| *name != activated)?;
    let (up, up_node) = draft.producer(other)?;
    draft.sole_consumer(other)?;
    joints.push(product);
    let (Some(OpSpec::Linear(gate_spec)), Some(OpSpec::Linear(up_spec))) =
        (draft.spec(gate), draft.spec(up))
    else {
        return None;
    };
    let same_input = input(draft.node(gate)?, 0) == input(up_node, 0);
    if !same_input || !gate_spec.fits(up_spec) || gate_spec.rows() != up_spec.rows() || gate == up {
        return None;
    }
    Some(Found {
        gate,
        up,
        activation,
        joints,
        result: output(node, 0)?.to_owned(),
    })
}

fn replace(draft: &mut Draft, found: Found) {
    let Some((source, name)) = draft
        .node(found.gate)
        .and_then(|node| Some((input(node, 0)?.to_owned(), node.name.clone())))
    else {
        return;
    };
    let specs = (draft.take_spec(found.gate), draft.take_spec(found.up));
    let (Some(OpSpec::Linear(mut linear)), Some(OpSpec::Linear(up))) = specs else {
        return;
    };
    linear.parts.extend(up.parts);
    let mut removed = found.joints;
    removed.extend([found.gate, found.up]);
    let spec = OpSpec::Gated(linear, found.activation);
    draft.replace(&removed, &name, spec, &[&source], &[&found.result]);
}
