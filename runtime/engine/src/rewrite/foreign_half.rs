//! Graphs that compute in f16, as tools for GPUs write them, compute in f32 here, as ONNX Runtime does
//! on a CPU too: few CPUs have f16 arithmetic, and without it each operation converts twice. The
//! weights stay f16 in their file.

use std::collections::HashSet;

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto,
};

use crate::Error;
use crate::import::{ElementType, OnnxModel};

const HALF: i32 = ElementType::Float16 as i32;
const SINGLE: i32 = ElementType::Float as i32;

/// What happens to f16 inputs and outputs of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    /// They stay, and are converted inside.
    Kept,
    /// They become f32: nobody outside sees them.
    Widened,
}

/// Makes an f16 graph an f32 one. A graph with graphs inside it is left as it is.
pub(super) fn widen(model: &mut OnnxModel, interface: Interface) -> Result<(), Error> {
    let Some(graph) = &model.proto().graph else {
        return Ok(());
    };
    let nested = |node: &NodeProto| {
        node.attribute
            .iter()
            .any(|a| a.g.is_some() || !a.graphs.is_empty())
    };
    if !computes_in_half(graph) || graph.node.iter().any(nested) {
        return Ok(());
    }
    // Values that fill new tensors, as f32: their bytes are in the model's table, so read them first.
    let mut fills = Vec::new();
    for node in &graph.node {
        for attribute in node
            .attribute
            .iter()
            .filter(|_| node.op_type == "ConstantOfShape")
        {
            if let Some(tensor) = attribute.t.as_ref().filter(|t| t.data_type == HALF) {
                let bytes = model.tensor(tensor)?.bytes;
                let (numbers, _) = bytes.as_chunks::<2>();
                fills.push(
                    numbers
                        .iter()
                        .map(|n| half::f16::from_le_bytes(*n).to_f32())
                        .collect(),
                );
            }
        }
    }
    if let Some(graph) = &mut model.proto_mut().graph {
        lift_constants(graph);
        retype_nodes(graph, fills);
        widen_initialisers(graph);
        match interface {
            Interface::Kept => convert_interface(graph),
            Interface::Widened => retype_interface(graph),
        }
        graph.value_info.clear();
    }
    Ok(())
}

/// Whether there are f16 numbers that aren't widened before anything else happens to them.
fn computes_in_half(graph: &GraphProto) -> bool {
    let half_values = graph.input.iter().any(is_half);
    let to_half =
        |node: &NodeProto| node.op_type == "Cast" && cast_target(node) == Some(i64::from(HALF));
    half_values
        || graph.node.iter().any(to_half)
        || graph
            .initializer
            .iter()
            .any(|t| t.data_type == HALF && !is_storage(graph, &t.name))
}

/// Whether an f16 tensor is only how f32 numbers, or the scales of blocks, are stored.
fn is_storage(graph: &GraphProto, name: &str) -> bool {
    let mut readers = graph
        .node
        .iter()
        .filter(|node| node.input.iter().any(|i| i == name));
    readers.all(|node| match node.op_type.as_str() {
        "Cast" => cast_target(node) == Some(i64::from(SINGLE)),
        "MatMulNBits" | "GatherBlockQuantized" => {
            (2..4).any(|index| node.input.get(index).is_some_and(|input| input == name))
        }
        _ => false,
    })
}

fn cast_target(node: &NodeProto) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == "to").map(|a| a.i)
}

/// `Constant` nodes with f16 tensors become initialisers.
fn lift_constants(graph: &mut GraphProto) {
    let mut lifted: Vec<TensorProto> = Vec::new();
    graph.node.retain(|node| {
        let value = node
            .attribute
            .iter()
            .find(|a| a.name == "value")
            .and_then(|a| a.t.as_ref());
        match (node.op_type.as_str(), value, node.output.first()) {
            ("Constant", Some(tensor), Some(name)) if tensor.data_type == HALF => {
                lifted.push(TensorProto {
                    name: name.clone(),
                    ..tensor.clone()
                });
                false
            }
            _ => true,
        }
    });
    graph.initializer.extend(lifted);
}

/// Nodes that name the type they make, make f32 instead.
fn retype_nodes(graph: &mut GraphProto, fills: Vec<Vec<f32>>) {
    let mut fills = fills.into_iter();
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            match (node.op_type.as_str(), attribute.name.as_str()) {
                ("Cast", "to")
                | ("EyeLike" | "RandomNormalLike" | "RandomUniformLike", "dtype")
                    if attribute.i == i64::from(HALF) =>
                {
                    attribute.i = i64::from(SINGLE);
                }
                ("ConstantOfShape", "value") => {
                    if let Some(tensor) = attribute.t.as_mut().filter(|t| t.data_type == HALF) {
                        *tensor = TensorProto {
                            data_type: SINGLE,
                            dims: tensor.dims.clone(),
                            float_data: fills.next().unwrap_or_default(),
                            ..TensorProto::default()
                        };
                    }
                }
                _ => {}
            }
        }
    }
}

fn cast(input: &str, output: &str, to: i32) -> NodeProto {
    let to = AttributeProto {
        name: "to".into(),
        r#type: tract_onnx::pb::attribute_proto::AttributeType::Int as i32,
        i: i64::from(to),
        ..AttributeProto::default()
    };
    NodeProto {
        name: format!("{output}.cast"),
        op_type: "Cast".into(),
        input: vec![input.into()],
        output: vec![output.into()],
        attribute: vec![to],
        ..NodeProto::default()
    }
}

/// Puts a conversion behind every f16 initialiser that computes; what reads it stays as it is.
fn widen_initialisers(graph: &mut GraphProto) {
    let storage: HashSet<String> = graph
        .initializer
        .iter()
        .filter(|t| t.data_type == HALF && is_storage(graph, &t.name))
        .map(|t| t.name.clone())
        .collect();
    let mut casts = Vec::new();
    for tensor in &mut graph.initializer {
        if tensor.data_type == HALF && !storage.contains(&tensor.name) {
            let stored = format!("{}.half", tensor.name);
            casts.push(cast(&stored, &tensor.name, SINGLE));
            tensor.name = stored;
        }
    }
    // A look-up gives what its scales are.
    let mut widened = Vec::new();
    for node in graph
        .node
        .iter_mut()
        .filter(|node| node.op_type == "GatherBlockQuantized")
    {
        let is_half = node
            .input
            .get(2)
            .is_some_and(|scales| storage.contains(scales));
        if let Some(output) = node.output.first_mut().filter(|_| is_half) {
            let stored = format!("{output}.half");
            widened.push(cast(&stored, output, SINGLE));
            *output = stored;
        }
    }
    casts.append(&mut graph.node);
    casts.append(&mut widened);
    graph.node = casts;
}

fn is_half(value: &ValueInfoProto) -> bool {
    match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type == HALF,
        None => false,
    }
}

/// Converts f16 inputs on their way in and f16 outputs on their way out.
fn convert_interface(graph: &mut GraphProto) {
    let names = |values: &[ValueInfoProto]| -> HashSet<String> {
        values
            .iter()
            .filter(|v| is_half(v))
            .map(|v| v.name.clone())
            .collect()
    };
    let (inputs, outputs) = (names(&graph.input), names(&graph.output));
    let inside = |name: &str| format!("{name}.single");
    for node in &mut graph.node {
        for name in node
            .input
            .iter_mut()
            .filter(|n| inputs.contains(*n) || outputs.contains(*n))
        {
            *name = inside(name);
        }
        for name in node.output.iter_mut().filter(|n| outputs.contains(*n)) {
            *name = inside(name);
        }
    }
    let casts_in = inputs.iter().map(|name| cast(name, &inside(name), SINGLE));
    let mut nodes: Vec<NodeProto> = casts_in.collect();
    nodes.append(&mut graph.node);
    let made: HashSet<&str> = nodes
        .iter()
        .flat_map(|n| n.output.iter().map(String::as_str))
        .collect();
    let casts_out: Vec<NodeProto> = outputs
        .iter()
        .filter(|name| made.contains(inside(name).as_str()))
        .map(|name| cast(&inside(name), name, HALF))
        .collect();
    nodes.extend(casts_out);
    graph.node = nodes;
}

fn retype_interface(graph: &mut GraphProto) {
    for value in graph
        .input
        .iter_mut()
        .chain(&mut graph.output)
        .filter(|v| is_half(v))
    {
        if let Some(type_proto::Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            tensor.elem_type = SINGLE;
        }
    }
}
