//! Microsoft's normalisations with the residual addition inside, as ONNX Runtime's own tools write
//! them: `SkipSimplifiedLayerNormalization` (RMS) and `SkipLayerNormalization`.

use tract_onnx::pb::NodeProto;

use super::constants;
use super::draft::Draft;
use super::node::{float, input, output};
use super::spec::{NormKind, NormSpec, OpSpec};
use crate::Error;

/// Rewrites those whose factors are constants and that give no statistics away.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids() {
        let Some(node) = draft.node(id) else { continue };
        let Some(spec) = norm(draft, node)? else {
            continue;
        };
        let (Some(a), Some(b), Some(result)) = (input(node, 0), input(node, 1), output(node, 0))
        else {
            continue;
        };
        let (a, b, result) = (a.to_owned(), b.to_owned(), result.to_owned());
        let sum = output(node, 3).map_or_else(|| format!("{result}.sum"), str::to_owned);
        let name = if node.name.is_empty() {
            result.clone()
        } else {
            node.name.clone()
        };
        draft.replace(
            &[id],
            &name,
            OpSpec::Norm(spec),
            &[&a, &b],
            &[&result, &sum],
        );
    }
    Ok(())
}

fn norm(draft: &Draft, node: &NodeProto) -> Result<Option<NormSpec>, Error> {
    let is_layer = match node.op_type.as_str() {
        "SkipSimplifiedLayerNormalization" => false,
        "SkipLayerNormalization" => true,
        _ => return Ok(None),
    };
    // A bias that is added before is rare: such a node is left to tract.
    let has_bias = input(node, if is_layer { 4 } else { 3 }).is_some();
    if has_bias || output(node, 1).is_some() || output(node, 2).is_some() {
        return Ok(None);
    }
    let vector = |index: usize| match input(node, index) {
        Some(name) => constants::vector(draft, name),
        None => Ok(None),
    };
    let Some(gain) = vector(2)? else {
        return Ok(None);
    };
    let kind = match is_layer {
        false => NormKind::Rms,
        true => match (input(node, 3), vector(3)?) {
            (None, _) => NormKind::Layer { bias: None },
            (Some(_), Some(bias)) if bias.len() == gain.len() => {
                NormKind::Layer { bias: Some(bias) }
            }
            _ => return Ok(None),
        },
    };
    let epsilon = float(node, "epsilon").unwrap_or(if is_layer { 1e-12 } else { 1e-5 });
    Ok(Some(NormSpec {
        gain,
        kind,
        epsilon,
        residual: true,
    }))
}
