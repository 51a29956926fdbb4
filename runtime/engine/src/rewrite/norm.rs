//! RMS and layer normalisation become one op, which also does the residual addition before it.

use tract_onnx::pb::NodeProto;

use super::constants;
use super::draft::{Draft, NodeId};
use super::node::{float, input, int, output};
use super::spec::{NormKind, NormSpec, OpSpec};
use crate::Error;

/// Rewrites every normalisation over the last axis with constant factors.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids() {
        let Some(node) = draft.node(id) else { continue };
        let Some(mut norm) = norm(draft, node)? else {
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
        match residual(draft, &source) {
            Some((add, a, b)) => {
                norm.residual = true;
                let spec = OpSpec::Norm(norm);
                draft.replace(&[id, add], &name, spec, &[&a, &b], &[&result, &source]);
            }
            None => {
                draft.replace(&[id], &name, OpSpec::Norm(norm), &[&source], &[&result]);
            }
        }
    }
    Ok(())
}

fn norm(draft: &Draft, node: &NodeProto) -> Result<Option<NormSpec>, Error> {
    let is_layer = match node.op_type.as_str() {
        "RMSNormalization" | "SimplifiedLayerNormalization" => false,
        "LayerNormalization" => true,
        _ => return Ok(None),
    };
    if int(node, "axis").unwrap_or(-1) != -1
        || output(node, 1).is_some()
        || output(node, 2).is_some()
    {
        return Ok(None);
    }
    let Some(gain) = input(node, 1)
        .map(|name| constants::vector(draft, name))
        .transpose()?
        .flatten()
    else {
        return Ok(None);
    };
    let bias = match input(node, 2) {
        None => None,
        Some(name) => match constants::vector(draft, name)?.filter(|bias| bias.len() == gain.len())
        {
            Some(bias) if is_layer => Some(bias),
            _ => return Ok(None),
        },
    };
    let kind = if is_layer {
        NormKind::Layer { bias }
    } else {
        NormKind::Rms
    };
    let epsilon = float(node, "epsilon").unwrap_or(1e-5);
    Ok(Some(NormSpec {
        gain,
        kind,
        epsilon,
        residual: false,
    }))
}

/// The addition that makes `value`, when it adds two activations of the same shape.
fn residual(draft: &Draft, value: &str) -> Option<(NodeId, String, String)> {
    let (id, node) = draft
        .producer(value)
        .filter(|(_, node)| node.op_type == "Add")?;
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    // Where one side comes out of a linear layer and the other out of one of our ops too, both have the
    // stream's own shape; anything else might be broadcast.
    let ours = |value: &str| {
        draft
            .producer(value)
            .is_some_and(|(id, _)| draft.spec(id).is_some())
    };
    let linear = |value: &str| {
        let spec = draft.producer(value).and_then(|(id, _)| draft.spec(id));
        spec.is_some_and(|spec| spec.linear_rows().is_some())
    };
    let stream = |value: &str| ours(value) || is_sum_of_ours(draft, value);
    // Positions are looked up once for all sequences of a batch.
    let looked_up = |value: &str| {
        let spec = draft.producer(value).and_then(|(id, _)| draft.spec(id));
        matches!(spec, Some(OpSpec::Gather(..)))
    };
    let layers = |value: &str| ours(value) && !looked_up(value);
    let fits = (linear(a) && stream(b)) || (linear(b) && stream(a)) || (layers(a) && layers(b));
    fits.then(|| (id, a.to_owned(), b.to_owned()))
}

/// Whether a value is an addition that reads one of our ops' outputs.
fn is_sum_of_ours(draft: &Draft, value: &str) -> bool {
    draft.producer(value).is_some_and(|(_, node)| {
        node.op_type == "Add"
            && node.input.iter().any(|name| {
                draft
                    .producer(name)
                    .is_some_and(|(id, _)| draft.spec(id).is_some())
            })
    })
}
