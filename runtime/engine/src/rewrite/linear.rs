//! `MatMulNBits`, and `MatMul` or `Gemm` with a constant matrix, become `QuantLinear`; a bias is taken in.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::constants;
use super::draft::{Draft, NodeId};
use super::node::{float, input, int, output, size};
use super::spec::{LinearPart, LinearSpec, OpSpec, WeightData, WeightSource, ZeroPoints};
use crate::Error;
use crate::import::ElementType;

/// What a node says about the linear layer that it is.
struct Found {
    weights: WeightSource,
    bias: Option<Arc<[f32]>>,
}

/// Rewrites every linear layer with constant weights.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids() {
        let Some(node) = draft.node(id) else { continue };
        let found = match node.op_type.as_str() {
            "MatMul" => mat_mul(draft, node)?,
            "Gemm" => gemm(draft, node)?,
            "MatMulNBits" => mat_mul_nbits(draft, node)?,
            _ => None,
        };
        if let Some(found) = found {
            replace(draft, id, found)?;
        }
    }
    Ok(())
}

fn replace(draft: &mut Draft, id: NodeId, found: Found) -> Result<(), Error> {
    let Some(node) = draft.node(id) else {
        return Ok(());
    };
    let (Some(source), Some(result)) = (input(node, 0), output(node, 0)) else {
        return Ok(());
    };
    let (source, mut result) = (source.to_owned(), result.to_owned());
    let name = if node.name.is_empty() {
        result.clone()
    } else {
        node.name.clone()
    };
    let mut removed = vec![id];
    let mut bias = found.bias;
    if bias.is_none()
        && let Some((add, sum, summand)) = bias_add(draft, &result, found.weights.rows)?
    {
        removed.push(add);
        result = sum;
        bias = Some(summand);
    }
    let part = LinearPart {
        name: name.clone(),
        weights: found.weights,
        bias,
    };
    let spec = OpSpec::Linear(LinearSpec { parts: vec![part] });
    draft.replace(&removed, &name, spec, &[&source], &[&result]);
    Ok(())
}

/// A node that adds a constant vector, its output, and the vector.
pub(super) type BiasAdd = (NodeId, String, Arc<[f32]>);

/// The node that adds a constant vector of `rows` numbers to `value`.
pub(super) fn bias_add(draft: &Draft, value: &str, rows: usize) -> Result<Option<BiasAdd>, Error> {
    let Some((id, node)) = draft
        .sole_consumer(value)
        .filter(|(_, node)| node.op_type == "Add")
    else {
        return Ok(None);
    };
    let (Some(a), Some(b), Some(sum)) = (input(node, 0), input(node, 1), output(node, 0)) else {
        return Ok(None);
    };
    let other = if a == value { b } else { a };
    let bias = constants::vector(draft, other)?.filter(|bias| bias.len() == rows);
    Ok(bias.map(|bias| (id, sum.to_owned(), bias)))
}

fn mat_mul(draft: &Draft, node: &NodeProto) -> Result<Option<Found>, Error> {
    let (Some(left), Some(right)) = (input(node, 0), input(node, 1)) else {
        return Ok(None);
    };
    if draft.initialiser(left).is_some() {
        return Ok(None);
    }
    let weights = constants::right_matrix(draft, right)?;
    Ok(weights.map(|weights| Found {
        weights,
        bias: None,
    }))
}

fn gemm(draft: &Draft, node: &NodeProto) -> Result<Option<Found>, Error> {
    let plain = int(node, "transA").unwrap_or(0) == 0 && float(node, "alpha").unwrap_or(1.0) == 1.0;
    let (Some(left), Some(right)) = (input(node, 0), input(node, 1)) else {
        return Ok(None);
    };
    if !plain || draft.initialiser(left).is_some() {
        return Ok(None);
    }
    let Some(mut weights) = constants::right_matrix(draft, right)? else {
        return Ok(None);
    };
    if int(node, "transB").unwrap_or(0) != 0 {
        let WeightData::Dense { transposed, .. } = &mut weights.data else {
            return Ok(None);
        };
        *transposed = !*transposed;
        std::mem::swap(&mut weights.rows, &mut weights.cols);
    }
    let Some(summand) = input(node, 2) else {
        return Ok(Some(Found {
            weights,
            bias: None,
        }));
    };
    let bias = constants::vector(draft, summand)?.filter(|bias| bias.len() == weights.rows);
    let plain = float(node, "beta").unwrap_or(1.0) == 1.0;
    Ok(bias.filter(|_| plain).map(|bias| Found {
        weights,
        bias: Some(bias),
    }))
}

fn mat_mul_nbits(draft: &Draft, node: &NodeProto) -> Result<Option<Found>, Error> {
    let (Some(rows), Some(cols), Some(block_size)) =
        (size(node, "N"), size(node, "K"), size(node, "block_size"))
    else {
        return Ok(None);
    };
    if input(node, 4).is_some() {
        return Ok(None);
    }
    let names = BlockNames {
        codes: input(node, 1),
        scales: input(node, 2),
        zero_points: input(node, 3),
    };
    let bits = size(node, "bits").unwrap_or(4);
    let Some(weights) = block_weights(draft, node, rows, cols, bits, block_size, &names)? else {
        return Ok(None);
    };
    let bias = match input(node, 5) {
        None => None,
        Some(bias) => match constants::vector(draft, bias)?.filter(|bias| bias.len() == rows) {
            None => return Ok(None),
            bias => bias,
        },
    };
    Ok(Some(Found { weights, bias }))
}

/// The initialisers that make up a block-quantised matrix.
pub(super) struct BlockNames<'n> {
    pub codes: Option<&'n str>,
    pub scales: Option<&'n str>,
    pub zero_points: Option<&'n str>,
}

/// A block-quantised matrix, if all its parts are constants of types we read.
///
/// # Errors
/// [`Error::Invalid`] when the sizes of the parts contradict the node's attributes.
pub(super) fn block_weights(
    draft: &Draft,
    node: &NodeProto,
    rows: usize,
    cols: usize,
    bits: usize,
    block_size: usize,
    names: &BlockNames<'_>,
) -> Result<Option<WeightSource>, Error> {
    if !matches!(bits, 4 | 8) || !block_size.is_power_of_two() || !(16..=256).contains(&block_size)
    {
        return Ok(None);
    }
    let constant = |name: Option<&str>| {
        name.and_then(|name| draft.initialiser(name))
            .map(|tensor| draft.tensor(tensor))
            .transpose()
    };
    let (Some(codes), Some(scales)) = (constant(names.codes)?, constant(names.scales)?) else {
        return Ok(None);
    };
    let zero_points = constant(names.zero_points)?;
    if names.zero_points.is_some() && zero_points.is_none() {
        return Ok(None);
    }
    let Some(scale_width) = constants::float_width(scales.element) else {
        return Ok(None);
    };
    if !matches!(codes.element, ElementType::Uint8 | ElementType::Uint4) {
        return Ok(None);
    }
    let blocks = cols.div_ceil(block_size);
    let fits = |actual: usize, row_bytes: Option<usize>| {
        row_bytes.and_then(|bytes| bytes.checked_mul(rows)) == Some(actual) && actual > 0
    };
    let refuse = |what: &str| {
        let place = format!("node {:?}", node.name);
        let reason = format!(
            "its {what} don't fit {rows} x {cols} weights of {bits} bits in blocks of {block_size}; \
             export the model again"
        );
        Err(Error::invalid(draft.path(), place, reason))
    };
    let scale_bytes = if scales.element == ElementType::Float {
        4
    } else {
        2
    };
    if !fits(codes.bytes.len(), blocks.checked_mul(block_size * bits / 8)) {
        return refuse("codes");
    }
    if !fits(scales.bytes.len(), blocks.checked_mul(scale_bytes)) {
        return refuse("scales");
    }
    let zero_points = match zero_points {
        None => ZeroPoints::Middle,
        Some(points) if matches!(points.element, ElementType::Uint8 | ElementType::Uint4) => {
            if !fits(
                points.bytes.len(),
                blocks.checked_mul(bits).map(|bits| bits.div_ceil(8)),
            ) {
                return refuse("zero points");
            }
            ZeroPoints::Packed(points.bytes)
        }
        Some(points) if points.element == scales.element => {
            if !fits(points.bytes.len(), blocks.checked_mul(scale_bytes)) {
                return refuse("zero points");
            }
            ZeroPoints::Float(points.bytes)
        }
        Some(_) => return Ok(None),
    };
    let data = WeightData::Blocks {
        bits,
        block_size,
        codes: codes.bytes,
        scales: scales.bytes,
        scale_width,
        zero_points,
    };
    Ok(Some(WeightSource { rows, cols, data }))
}
