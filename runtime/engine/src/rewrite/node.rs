//! Reading a node's parts: inputs, outputs, attributes, and what it takes from around it.

use std::collections::HashSet;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// The values a node reads: its inputs, and what the graphs inside it take from around them.
pub(crate) fn reads(node: &NodeProto) -> Vec<String> {
    let mut values: Vec<String> = node
        .input
        .iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    for graph in node
        .attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs))
    {
        values.extend(captured(graph));
    }
    values
}

/// The values a nested graph takes from around it.
fn captured(graph: &GraphProto) -> Vec<String> {
    let mut own: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    own.extend(
        graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(String::as_str)),
    );
    let inner = graph.node.iter().flat_map(reads);
    let results = graph.output.iter().map(|output| output.name.clone());
    inner
        .chain(results)
        .filter(|value| !own.contains(value.as_str()))
        .collect()
}

/// A node's input at `index`; `None` when it is left out.
pub(crate) fn input(node: &NodeProto, index: usize) -> Option<&str> {
    node.input
        .get(index)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// A node's output at `index`; `None` when it is left out.
pub(crate) fn output(node: &NodeProto, index: usize) -> Option<&str> {
    node.output
        .get(index)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// The input of a node of two, of this type, that isn't `value`.
pub(crate) fn other_input<'n>(node: &'n NodeProto, op_type: &str, value: &str) -> Option<&'n str> {
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    match node.op_type == op_type {
        true if a == value && b != value => Some(b),
        true if b == value && a != value => Some(a),
        _ => None,
    }
}

/// A node's attribute.
pub(crate) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}

/// A whole-number attribute.
pub(crate) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|attribute| attribute.i)
}

/// A size attribute: a whole number that isn't negative.
pub(crate) fn size(node: &NodeProto, name: &str) -> Option<usize> {
    usize::try_from(int(node, name)?).ok()
}

/// A real-number attribute.
pub(crate) fn float(node: &NodeProto, name: &str) -> Option<f32> {
    attribute(node, name).map(|attribute| attribute.f)
}

/// A list-of-whole-numbers attribute.
pub(crate) fn ints<'n>(node: &'n NodeProto, name: &str) -> Option<&'n [i64]> {
    attribute(node, name).map(|attribute| attribute.ints.as_slice())
}

/// A text attribute.
pub(crate) fn text<'n>(node: &'n NodeProto, name: &str) -> Option<&'n str> {
    std::str::from_utf8(&attribute(node, name)?.s).ok()
}

/// Makes a whole-number attribute.
pub(crate) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    use tract_onnx::pb::attribute_proto::AttributeType;
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

/// Makes a real-number attribute.
pub(crate) fn float_attribute(name: &str, value: f32) -> AttributeProto {
    use tract_onnx::pb::attribute_proto::AttributeType;
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Float as i32,
        f: value,
        ..AttributeProto::default()
    }
}

/// Makes a list-of-whole-numbers attribute.
pub(crate) fn ints_attribute(name: &str, values: Vec<i64>) -> AttributeProto {
    use tract_onnx::pb::attribute_proto::AttributeType;
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values,
        ..AttributeProto::default()
    }
}
