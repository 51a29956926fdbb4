//! `GatherBlockQuantized`, and `Gather` of rows of a constant matrix, become `QuantGather`.

use tract_onnx::pb::NodeProto;

use super::constants;
use super::draft::{Draft, NodeId};
use super::linear::{BlockNames, block_weights};
use super::node::{input, int, output, size};
use super::spec::{FloatWidth, OpSpec, WeightData, WeightSource};
use crate::Error;
use crate::import::ElementType;

/// Rewrites every look-up of rows.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    for id in draft.ids() {
        let Some(node) = draft.node(id) else { continue };
        let weights = match node.op_type.as_str() {
            "Gather" if int(node, "axis").unwrap_or(0) == 0 => match input(node, 0) {
                Some(table) => constants::table(draft, table)?,
                None => None,
            },
            "GatherBlockQuantized" => quantised(draft, node)?,
            _ => None,
        };
        let (Some(weights), Some(indices), Some(result)) =
            (weights, input(node, 1), output(node, 0))
        else {
            continue;
        };
        let (indices, result) = (indices.to_owned(), result.to_owned());
        let name = if node.name.is_empty() {
            result.clone()
        } else {
            node.name.clone()
        };
        let width = output_width(draft, id, &weights);
        let spec = OpSpec::Gather(weights, width);
        draft.replace(&[id], &name, spec, &[&indices], &[&result]);
    }
    Ok(())
}

/// The type of a look-up's output: that of the table as the node sees it, or that of the scales.
fn output_width(draft: &Draft, id: NodeId, weights: &WeightSource) -> FloatWidth {
    let table = draft.node(id).and_then(|node| input(node, 0));
    let direct = table.is_some_and(|table| draft.initialiser(table).is_some());
    match &weights.data {
        WeightData::Dense { width, .. } if direct => *width,
        WeightData::Dense { .. } => FloatWidth::F32,
        WeightData::Blocks { scale_width, .. } => *scale_width,
    }
}

fn quantised(draft: &Draft, node: &NodeProto) -> Result<Option<WeightSource>, Error> {
    let names = BlockNames {
        codes: input(node, 0),
        scales: input(node, 2),
        zero_points: input(node, 3),
    };
    let Some(codes) = names.codes.and_then(|name| draft.initialiser(name)) else {
        return Ok(None);
    };
    let data = draft.tensor(codes)?;
    let &[rows, stored_cols] = data.dims.as_slice() else {
        return Ok(None);
    };
    let bits = size(node, "bits").unwrap_or(4);
    let block_size = size(node, "block_size").unwrap_or(128);
    let axis = int(node, "quantize_axis").unwrap_or(1);
    if int(node, "gather_axis").unwrap_or(0) != 0 || !matches!(axis, 1 | -1) {
        return Ok(None);
    }
    let cols = match data.element {
        ElementType::Uint8 if bits == 4 => stored_cols.checked_mul(2),
        ElementType::Uint8 if bits == 8 => Some(stored_cols),
        ElementType::Uint4 if bits == 4 => Some(stored_cols),
        _ => None,
    };
    // The table isn't padded to whole blocks, unlike the weights of MatMulNBits: only whole blocks are the same.
    let Some(cols) = cols.filter(|cols| block_size > 0 && cols.is_multiple_of(block_size)) else {
        return Ok(None);
    };
    block_weights(draft, node, rows, cols, bits, block_size, &names)
}
