//! Which operators nothing here can run: all of them at once, so that a user asks only once.

use std::fmt;

use tract_onnx::pb;

use super::{OnnxModel, names, opset};
use crate::Error;

/// One node that can't be run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UnsupportedOp {
    /// The node's name, or its first output's.
    pub node: String,
    /// The operator's type.
    pub op: String,
    /// Its domain, `ai.onnx` for the standard one.
    pub domain: String,
    /// The version of that domain's operator set that the model imports; 0 if it imports none.
    pub opset: i64,
}

/// Every node of a model that can't be run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UnsupportedOps(pub Vec<UnsupportedOp>);

impl fmt::Display for UnsupportedOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} operator(s) can't be run:", self.0.len())?;
        for UnsupportedOp {
            node,
            op,
            domain,
            opset,
        } in &self.0
        {
            write!(f, "\n  {op} ({domain} {opset}) at node {node:?}")?;
        }
        write!(f, "\nexport the model with standard operators instead")
    }
}

pub(super) fn check(
    model: &OnnxModel,
    known: impl Fn(&pb::NodeProto) -> bool,
) -> Result<(), Error> {
    let mut missing = Vec::new();
    walk(model.graph(), &mut |node| {
        if known(node) {
            return;
        }
        let domain = if node.domain.is_empty() {
            "ai.onnx"
        } else {
            &node.domain
        };
        missing.push(UnsupportedOp {
            node: names::label(node).to_string(),
            op: node.op_type.clone(),
            domain: domain.to_string(),
            opset: opset(model.proto(), domain).unwrap_or(0),
        });
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::UnsupportedOps {
        file: model.path().to_path_buf(),
        ops: UnsupportedOps(missing),
    })
}

fn walk(graph: &pb::GraphProto, visit: &mut impl FnMut(&pb::NodeProto)) {
    for node in &graph.node {
        visit(node);
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                walk(inner, visit);
            }
        }
    }
}
