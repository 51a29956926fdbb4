//! Attributes that tract takes on faith: a permutation that isn't one sends it into an endless loop, a
//! stride of zero into a division by it.

use std::path::Path;

use tract_onnx::pb;

use super::names::label;
use super::{EXPORT_AGAIN, MAX_RANK, invalid};
use crate::Error;

/// The largest window, stride, number of heads or of outputs; what transformers use is far below.
const MAX_COUNT: i64 = 1 << 20;
/// The most numbers in a list that speaks of axes.
const MAX_AXIS_NUMBERS: usize = 2 * MAX_RANK;

/// Checks the attributes of every node of a graph and of the graphs inside it.
pub(super) fn check(path: &Path, graph: &pb::GraphProto) -> Result<(), Error> {
    for node in &graph.node {
        for (index, attribute) in node.attribute.iter().enumerate() {
            let refuse = |reason: &str| {
                let place = format!(
                    "node {:?} ({}), attribute {:?}",
                    label(node),
                    node.op_type,
                    attribute.name
                );
                Err(invalid(path, place, reason, EXPORT_AGAIN))
            };
            if node.attribute[..index]
                .iter()
                .any(|other| other.name == attribute.name)
            {
                return refuse("it is there twice");
            }
            if let Some(reason) = fault(node, attribute) {
                return refuse(reason);
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                check(path, inner)?;
            }
        }
    }
    Ok(())
}

/// What is wrong with an attribute, if anything.
fn fault(node: &pb::NodeProto, attribute: &pb::AttributeProto) -> Option<&'static str> {
    let axis = |axis: &i64| (-(MAX_RANK as i64)..=MAX_RANK as i64).contains(axis);
    let count = |count: &i64| (1..=MAX_COUNT).contains(count);
    let ints = &attribute.ints;
    let fits = match attribute.name.as_str() {
        "perm" => {
            let mut sorted = ints.clone();
            sorted.sort_unstable();
            if sorted.len() > MAX_RANK || (0..).zip(&sorted).any(|(wanted, axis)| wanted != *axis) {
                return Some("it is not a permutation of the axes");
            }
            true
        }
        "axes" => ints.len() <= MAX_RANK && ints.iter().all(axis),
        "axis" | "batch_axis" | "time_axis" | "gather_axis" | "quantize_axis" | "batch_dims" => {
            axis(&attribute.i)
        }
        "kernel_shape" | "strides" | "dilations" => {
            ints.len() <= MAX_AXIS_NUMBERS && ints.iter().all(count)
        }
        "pads" | "output_padding" => {
            ints.len() <= MAX_AXIS_NUMBERS && ints.iter().all(|pad| pad.abs() <= MAX_COUNT)
        }
        "group" | "q_num_heads" | "kv_num_heads" | "blocksize" | "num_outputs" => {
            count(&attribute.i)
        }
        // Some operators have 0 for "work it out", or as the default of a feature that is off.
        "num_heads" | "rotary_embedding_dim" | "block_size" => {
            (0..=MAX_COUNT).contains(&attribute.i)
        }
        "split" => ints
            .iter()
            .all(|part| (0..=i64::from(i32::MAX)).contains(part)),
        "shape" | "output_shape" if node.op_type != "Reshape" => {
            let elements = ints
                .iter()
                .try_fold(1i64, |all, dim| all.checked_mul((*dim).max(1)));
            ints.len() <= MAX_RANK && elements.is_some_and(|all| all <= i64::from(i32::MAX))
        }
        _ => true,
    };
    (!fits).then_some("it is out of range")
}
