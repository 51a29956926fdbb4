//! GELU written out in elementary ops, as PyTorch exports it below opset 20, becomes our activation op.
//!
//! `x/2 · (1 + erf(x/√2))`, or `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, with the factors in any order.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use tract_onnx::pb::NodeProto;

use super::constants::{is_near, scalar, scaled};
use super::draft::{Draft, NodeId};
use super::node::{input, other_input, output};
use super::spec::{Activation, OpSpec};
use crate::Error;

/// The nodes from the function on, and what they make.
struct Found {
    source: String,
    removed: Vec<NodeId>,
    result: String,
}

/// Rewrites every such activation.
///
/// # Errors
/// A constant that can't be read.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids() {
        let Some(node) = draft.node(id) else { continue };
        let (source, activation) = match node.op_type.as_str() {
            "Erf" => (erf_source(draft, node)?, Activation::GeluErf),
            "Tanh" => (tanh_source(draft, node)?, Activation::GeluTanh),
            _ => continue,
        };
        let Some(found) = source
            .map(|source| gate(draft, id, node, source))
            .transpose()?
            .flatten()
        else {
            continue;
        };
        let spec = OpSpec::Activation(activation);
        let (source, result) = (&found.source, &found.result);
        draft.replace(&found.removed, result, spec, &[source], &[result]);
    }
    Ok(())
}

/// The `x` of `erf(x/√2)`.
fn erf_source(draft: &Draft, node: &NodeProto) -> Result<Option<String>, Error> {
    let found = scaled(draft, input(node, 0).unwrap_or_default())?;
    Ok(found
        .filter(|(_, factor)| is_near(*factor, FRAC_1_SQRT_2))
        .map(|(source, _)| source))
}

/// The `x` of `tanh(√(2/π) · (x + 0.044715 x³))`.
fn tanh_source(draft: &Draft, node: &NodeProto) -> Result<Option<String>, Error> {
    let Some((sum, factor)) = scaled(draft, input(node, 0).unwrap_or_default())? else {
        return Ok(None);
    };
    let Some((_, add)) = draft
        .producer(&sum)
        .filter(|(_, node)| node.op_type == "Add")
    else {
        return Ok(None);
    };
    let (Some(a), Some(b)) = (input(add, 0), input(add, 1)) else {
        return Ok(None);
    };
    for (source, term) in [(a, b), (b, a)] {
        if let Some((cube, share)) = scaled(draft, term)?
            && is_near(factor, FRAC_2_PI.sqrt())
            && is_near(share, 0.044_715)
            && is_cube(draft, &cube, source)?
        {
            return Ok(Some(source.to_owned()));
        }
    }
    Ok(None)
}

/// Whether a value is `source` to the power of three.
fn is_cube(draft: &Draft, value: &str, source: &str) -> Result<bool, Error> {
    let Some((_, node)) = draft.producer(value) else {
        return Ok(false);
    };
    if node.op_type == "Pow" {
        let exponent = scalar(draft, input(node, 1).unwrap_or_default())?;
        return Ok(input(node, 0) == Some(source) && exponent == Some(3.0));
    }
    let square = other_input(node, "Mul", source);
    let square = square.and_then(|square| draft.producer(square));
    Ok(square.is_some_and(|(_, node)| {
        node.op_type == "Mul" && input(node, 0) == Some(source) && input(node, 1) == Some(source)
    }))
}

/// What follows the function: `x/2 · (1 + function)`.
fn gate(
    draft: &Draft,
    id: NodeId,
    node: &NodeProto,
    source: String,
) -> Result<Option<Found>, Error> {
    let next = |node: &NodeProto, op: &str| {
        let value = output(node, 0)?;
        let (id, next) = draft.sole_consumer(value)?;
        Some((id, next, other_input(next, op, value)?.to_owned()))
    };
    let Some((add, sum, one)) = next(node, "Add") else {
        return Ok(None);
    };
    let Some((mul, product, factor)) = next(sum, "Mul") else {
        return Ok(None);
    };
    if scalar(draft, &one)? != Some(1.0) {
        return Ok(None);
    }
    let mut removed = vec![id, add, mul];
    let halves = match scaled(draft, &factor)? {
        Some((of, factor)) => of == source && is_near(factor, 0.5),
        None => false,
    };
    let mut last = product;
    if !halves {
        let Some((id, node)) = output(product, 0).and_then(|value| draft.sole_consumer(value))
        else {
            return Ok(None);
        };
        let value = output(product, 0).unwrap_or_default();
        let whole = factor == source;
        let rest = match (whole, scalar(draft, &factor)?) {
            // (1 + f) · x, then a half of it.
            (true, _) => scaled(draft, output(node, 0).unwrap_or_default())?
                .is_some_and(|(of, factor)| of == value && is_near(factor, 0.5)),
            // (1 + f) · ½, then times x.
            (false, Some(half)) => {
                is_near(half, 0.5) && other_input(node, "Mul", value) == Some(&source)
            }
            _ => false,
        };
        if !rest {
            return Ok(None);
        }
        removed.push(id);
        last = node;
    }
    Ok(output(last, 0).map(|result| Found {
        source,
        removed,
        result: result.to_owned(),
    }))
}
