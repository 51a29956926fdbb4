//! Normalisations written out in elementary ops become the standard's: `LayerNormalization`, as PyTorch exports it below
//! opset 17, and `RMSNormalization`, as it exports it below opset 23.
//!
//! `(x - mean(x)) / √(mean((x - mean(x))²) + ε) · gain + bias`, and the same without the means of `x`.

use tract_onnx::pb::NodeProto;

use super::constants::{self, scalar};
use super::draft::Draft;
use super::node::{float_attribute, input, int, int_attribute, ints, other_input, output};
use crate::Error;

/// A normalisation and the node that makes its result.
struct Found {
    op: &'static str,
    inputs: Vec<String>,
    epsilon: f32,
    last: usize,
    result: String,
}

/// Rewrites those over the last axis with constant factors. Nodes that nothing reads any more stay until the graph is pruned.
///
/// # Errors
/// A constant that can't be read.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids_of("Sqrt") {
        let found = match draft.node(id) {
            Some(node) => find(draft, node)?,
            None => None,
        };
        let Some(found) = found else { continue };
        draft.remove(found.last);
        draft.add(NodeProto {
            name: found.result.clone(),
            op_type: found.op.to_owned(),
            input: found.inputs,
            output: vec![found.result],
            attribute: vec![
                int_attribute("axis", -1),
                float_attribute("epsilon", found.epsilon),
            ],
            ..NodeProto::default()
        });
    }
    Ok(())
}

fn find(draft: &Draft, root: &NodeProto) -> Result<Option<Found>, Error> {
    let Some((deviation, epsilon)) = deviation(draft, root)? else {
        return Ok(None);
    };
    let source = centred(draft, &deviation)?;
    let Some(normalised) = divided(draft, root, &deviation)? else {
        return Ok(None);
    };
    let next = |value: &str, op: &str| {
        let (id, node) = draft.sole_consumer(value)?;
        let factor = other_input(node, op, value)?.to_owned();
        Some((id, factor, output(node, 0)?.to_owned()))
    };
    let length = |value: &str| -> Result<Option<usize>, Error> {
        Ok(match constants::dims(draft, value)?.as_deref() {
            Some(&[length]) => Some(length),
            _ => None,
        })
    };
    let Some((last, gain, result)) = next(&normalised, "Mul") else {
        return Ok(None);
    };
    let Some(columns) = length(&gain)? else {
        return Ok(None);
    };
    let Some(source) = source else {
        return Ok(Some(Found {
            op: "RMSNormalization",
            inputs: vec![deviation, gain],
            epsilon,
            last,
            result,
        }));
    };
    let mut found = Found {
        op: "LayerNormalization",
        inputs: vec![source, gain],
        epsilon,
        last,
        result,
    };
    if let Some((last, bias, result)) = next(&found.result, "Add")
        && length(&bias)? == Some(columns)
    {
        found.inputs.push(bias);
        found.last = last;
        found.result = result;
    }
    Ok(Some(found))
}

/// The `d` and the `ε` of `√(mean(d²) + ε)`.
fn deviation(draft: &Draft, root: &NodeProto) -> Result<Option<(String, f32)>, Error> {
    let Some((_, add)) = producer(draft, root, 0, "Add") else {
        return Ok(None);
    };
    for (mean, epsilon) in [(0, 1), (1, 0)] {
        let Some(epsilon) = scalar(draft, input(add, epsilon).unwrap_or_default())? else {
            continue;
        };
        let Some((_, mean)) = producer(draft, add, mean, "ReduceMean") else {
            return Ok(None);
        };
        let square = input(mean, 0).and_then(|square| draft.producer(square));
        let Some((_, square)) = square.filter(|_| epsilon >= 0.0) else {
            return Ok(None);
        };
        let squares = match square.op_type.as_str() {
            "Pow" => scalar(draft, input(square, 1).unwrap_or_default())? == Some(2.0),
            "Mul" => input(square, 0) == input(square, 1),
            _ => false,
        };
        let of_last_axis = squares && is_over_last_axis(draft, mean)?;
        let found = input(square, 0).map(|value| (value.to_owned(), epsilon));
        return Ok(found.filter(|_| of_last_axis));
    }
    Ok(None)
}

/// The `x` of a value that is `x - mean(x)`.
fn centred(draft: &Draft, value: &str) -> Result<Option<String>, Error> {
    let Some((_, sub)) = draft
        .producer(value)
        .filter(|(_, node)| node.op_type == "Sub")
    else {
        return Ok(None);
    };
    let Some((_, mean)) = producer(draft, sub, 1, "ReduceMean") else {
        return Ok(None);
    };
    let same = input(mean, 0) == input(sub, 0) && is_over_last_axis(draft, mean)?;
    Ok(input(sub, 0).filter(|_| same).map(str::to_owned))
}

/// The value that is `deviation / root`, or the product with its reciprocal.
fn divided(draft: &Draft, root: &NodeProto, deviation: &str) -> Result<Option<String>, Error> {
    let Some(value) = output(root, 0) else {
        return Ok(None);
    };
    let Some((_, next)) = draft.sole_consumer(value) else {
        return Ok(None);
    };
    let result = |node: &NodeProto| output(node, 0).map(str::to_owned);
    let reciprocal = match next.op_type.as_str() {
        "Div" if input(next, 1) == Some(value) => {
            let numerator = input(next, 0).unwrap_or_default();
            if is_same(draft, numerator, deviation) {
                return Ok(result(next));
            }
            scalar(draft, numerator)? == Some(1.0)
        }
        "Reciprocal" => true,
        _ => false,
    };
    let product = output(next, 0).filter(|_| reciprocal).and_then(|value| {
        let (_, node) = draft.sole_consumer(value)?;
        let factor = other_input(node, "Mul", value)?;
        is_same(draft, factor, deviation).then(|| result(node))?
    });
    Ok(product)
}

/// Whether two values are one, or the same difference computed twice, as older exporters write it.
fn is_same(draft: &Draft, a: &str, b: &str) -> bool {
    let difference = |value| {
        draft
            .producer(value)
            .filter(|(_, node)| node.op_type == "Sub")
    };
    a == b
        || match (difference(a), difference(b)) {
            (Some((_, a)), Some((_, b))) => {
                // The means may be two as well.
                let mean = |node| producer(draft, node, 1, "ReduceMean").map(|(_, node)| node);
                let same_mean = match (mean(a), mean(b)) {
                    (Some(a), Some(b)) => a.input == b.input && a.attribute == b.attribute,
                    _ => false,
                };
                input(a, 0) == input(b, 0) && same_mean
            }
            _ => false,
        }
}

/// The node of this type that makes a node's input.
fn producer<'d>(
    draft: &'d Draft,
    node: &NodeProto,
    index: usize,
    op_type: &str,
) -> Option<(usize, &'d NodeProto)> {
    let (id, node) = draft.producer(input(node, index)?)?;
    (node.op_type == op_type).then_some((id, node))
}

/// Whether a reduction is over the last axis and keeps it. The axis is an attribute below opset 18, an input from there on.
fn is_over_last_axis(draft: &Draft, node: &NodeProto) -> Result<bool, Error> {
    let last = match (ints(node, "axes"), input(node, 1)) {
        (Some(axes), None) => axes == [-1],
        (None, Some(axes)) => constants::whole_numbers(draft, axes)?.as_deref() == Some(&[-1]),
        _ => false,
    };
    Ok(last && int(node, "keepdims").unwrap_or(1) != 0)
}
