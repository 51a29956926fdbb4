//! Linear layers as ONNX Runtime's dynamic quantiser writes them become `Int8Linear`:
//! `DynamicQuantizeLinear` → `MatMulInteger` → `Cast` → `Mul` by both scales (→ `Add` of a bias).
//!
//! Activations are quantised inside the op, over the whole tensor as there. What isn't matched runs as it stands.

use furlong_core::int8::Ranges;
use tract_onnx::pb::NodeProto;

use super::constants;
use super::draft::{Draft, NodeId};
use super::linear::bias_add;
use super::node::{input, int, other_input, output};
use super::spec::{Int8Part, Int8Source, Int8Spec, OpSpec};
use crate::Error;
use crate::import::ElementType;

/// The most columns that the kernels take.
const MAX_COLUMNS: usize = 1 << 15;

/// A layer, the nodes that make it up, what they read and what they make.
struct Found {
    part: Int8Part,
    removed: Vec<NodeId>,
    source: String,
    result: String,
}

/// Rewrites every such layer with constant weights.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids_of("MatMulInteger") {
        let found = match draft.node(id) {
            Some(node) => find(draft, id, node)?,
            None => None,
        };
        let Some(found) = found else { continue };
        let name = found.part.name.clone();
        let spec = OpSpec::Int8Linear(Int8Spec {
            parts: vec![found.part],
            ranges: Ranges::Tensor,
        });
        draft.replace(
            &found.removed,
            &name,
            spec,
            &[&found.source],
            &[&found.result],
        );
    }
    Ok(())
}

fn find(draft: &Draft, id: NodeId, node: &NodeProto) -> Result<Option<Found>, Error> {
    let Some(chain) = chain(draft, node) else {
        return Ok(None);
    };
    let Some((rows, weights)) = weights(draft, node, &chain.scale)? else {
        return Ok(None);
    };
    let mut removed = vec![id, chain.cast, chain.product];
    let mut result = chain.result;
    let mut bias = None;
    if let Some((add, sum, summand)) = bias_add(draft, &result, rows)? {
        removed.push(add);
        result = sum;
        bias = Some(summand);
    }
    let name = match node.name.as_str() {
        "" => result.clone(),
        name => name.to_owned(),
    };
    Ok(Some(Found {
        part: Int8Part {
            name,
            weights,
            bias,
        },
        removed,
        source: chain.source,
        result,
    }))
}

/// What stands around a product of whole numbers.
struct Chain {
    /// The numbers before they are quantised.
    source: String,
    /// The weights' scale.
    scale: String,
    cast: NodeId,
    product: NodeId,
    result: String,
}

fn chain(draft: &Draft, node: &NodeProto) -> Option<Chain> {
    let codes = input(node, 0)?;
    let (_, quantised) = draft.producer(codes)?;
    let is_codes = quantised.op_type == "DynamicQuantizeLinear"
        && output(quantised, 0) == Some(codes)
        && output(quantised, 2) == Some(input(node, 2)?);
    let activation_scale = output(quantised, 1).filter(|_| is_codes)?;
    let (cast, cast_node) = draft.sole_consumer(output(node, 0)?)?;
    let to_float =
        cast_node.op_type == "Cast" && int(cast_node, "to") == Some(ElementType::Float as i64);
    let sum = output(cast_node, 0).filter(|_| to_float)?;
    let (product, product_node) = draft.sole_consumer(sum)?;
    let (_, scales) = draft.producer(other_input(product_node, "Mul", sum)?)?;
    Some(Chain {
        source: input(quantised, 0)?.to_owned(),
        scale: other_input(scales, "Mul", activation_scale)?.to_owned(),
        cast,
        product,
        result: output(product_node, 0)?.to_owned(),
    })
}

/// The weights of a node, and how many rows they have.
fn weights(
    draft: &Draft,
    node: &NodeProto,
    scale: &str,
) -> Result<Option<(usize, Int8Source)>, Error> {
    let constant = |index: usize| {
        let tensor = input(node, index).and_then(|name| draft.initialiser(name));
        tensor.map(|tensor| draft.tensor(tensor)).transpose()
    };
    let Some(codes) = constant(1)? else {
        return Ok(None);
    };
    let signed = match codes.element {
        ElementType::Int8 => true,
        ElementType::Uint8 => false,
        _ => return Ok(None),
    };
    let &[cols, rows] = codes.dims.as_slice() else {
        return Ok(None);
    };
    let fits = |count: usize| count == 1 || count == rows;
    let scales = match constants::floats(draft, scale)? {
        Some((_, scales)) if fits(scales.len()) => scales,
        _ => return Ok(None),
    };
    let zeros = match (input(node, 3), constant(3)?) {
        (None, _) => vec![0],
        (Some(_), Some(zeros)) if zeros.element == codes.element && fits(zeros.bytes.len()) => {
            zeros.bytes.to_vec()
        }
        _ => return Ok(None),
    };
    let size = rows.checked_mul(cols);
    if rows == 0 || cols == 0 || cols > MAX_COLUMNS || size != Some(codes.bytes.len()) {
        return Ok(None);
    }
    let source = Int8Source::Columns {
        rows,
        cols,
        codes: codes.bytes,
        signed,
        scales,
        zeros,
    };
    Ok(Some((rows, source)))
}
