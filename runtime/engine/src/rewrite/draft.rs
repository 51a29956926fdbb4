//! A graph that can be edited: nodes with who makes and who reads each value, constants, and weights taken out.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimensionValue};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto};

use super::node::{int, int_attribute, ints_attribute, reads};
use super::spec::OpSpec;
use crate::Error;
use crate::import::{OnnxModel, TensorData};

/// A node's place in a [`Draft`]. It stays valid, and names the same node, until that node is removed.
pub(crate) type NodeId = usize;

/// The graph of a model while it is being rewritten.
pub(crate) struct Draft {
    /// The model without the nodes and initialisers of its main graph.
    shell: OnnxModel,
    nodes: Vec<Option<NodeProto>>,
    initialisers: HashMap<String, TensorProto>,
    producers: HashMap<String, NodeId>,
    consumers: HashMap<String, Vec<NodeId>>,
    specs: Vec<OpSpec>,
}

impl Draft {
    /// Takes a model apart.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model that has nodes of our own domain: those point into a table that a file
    /// doesn't have.
    pub(crate) fn new(mut model: OnnxModel) -> Result<Draft, Error> {
        let graph = model.proto_mut().graph.get_or_insert_default();
        let nodes = std::mem::take(&mut graph.node);
        let initialisers = std::mem::take(&mut graph.initializer)
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        let mut draft = Draft {
            shell: model,
            nodes: Vec::with_capacity(nodes.len()),
            initialisers,
            producers: HashMap::new(),
            consumers: HashMap::new(),
            specs: Vec::new(),
        };
        for node in nodes {
            if node.domain == super::DOMAIN {
                let reason = "its domain is for the engine's own use; export the model without it";
                return Err(Error::invalid(
                    draft.path(),
                    format!("node {:?}", node.name),
                    reason,
                ));
            }
            draft.add(node);
        }
        Ok(draft)
    }

    /// The file the model came from, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.shell.path()
    }

    /// The value of `key` in the model's metadata.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.shell.metadata(key)
    }

    /// The nodes that are left, in no order that means anything.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        let present: Vec<NodeId> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.is_some())
            .map(|(id, _)| id)
            .collect();
        present.into_iter()
    }

    /// The nodes of one op type.
    pub(crate) fn ids_of(&self, op_type: &str) -> Vec<NodeId> {
        self.ids()
            .filter(|&id| self.node(id).is_some_and(|node| node.op_type == op_type))
            .collect()
    }

    /// A node, unless it was removed.
    pub(crate) fn node(&self, id: NodeId) -> Option<&NodeProto> {
        self.nodes.get(id)?.as_ref()
    }

    /// The node that makes a value.
    pub(crate) fn producer(&self, value: &str) -> Option<(NodeId, &NodeProto)> {
        let id = *self.producers.get(value)?;
        Some((id, self.node(id)?))
    }

    /// The nodes that read a value, each once.
    pub(crate) fn consumers(&self, value: &str) -> &[NodeId] {
        self.consumers
            .get(value)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The only node that reads a value that isn't an output of the graph.
    pub(crate) fn sole_consumer(&self, value: &str) -> Option<(NodeId, &NodeProto)> {
        match self.consumers(value) {
            &[id] if !self.is_output(value) => Some((id, self.node(id)?)),
            _ => None,
        }
    }

    /// The graph's inputs that aren't initialisers.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &ValueInfoProto> {
        self.shell
            .graph()
            .input
            .iter()
            .filter(|input| !self.initialisers.contains_key(&input.name))
    }

    /// The graph's outputs.
    pub(crate) fn outputs(&self) -> &[ValueInfoProto] {
        &self.shell.graph().output
    }

    /// Whether a value is an output of the graph.
    pub(crate) fn is_output(&self, value: &str) -> bool {
        self.outputs().iter().any(|output| output.name == value)
    }

    /// Whether a value is an input of the graph.
    pub(crate) fn is_input(&self, value: &str) -> bool {
        self.inputs().any(|input| input.name == value)
    }

    /// A graph input's shape.
    fn input_shape(&self, value: &str) -> Option<&[Dimension]> {
        use tract_onnx::pb::type_proto::Value;
        let input = self.inputs().find(|input| input.name == value)?;
        let Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
        Some(&tensor.shape.as_ref()?.dim)
    }

    /// The sizes of a graph input's axes; `None` for those with a name or none.
    pub(crate) fn input_dims(&self, value: &str) -> Option<Vec<Option<usize>>> {
        let size = |dim: &Dimension| match dim.value {
            Some(DimensionValue::DimValue(size)) => usize::try_from(size).ok(),
            _ => None,
        };
        Some(self.input_shape(value)?.iter().map(size).collect())
    }

    /// The size of a graph input's axis, a number or a name, if it says one.
    pub(crate) fn input_dimension(&self, value: &str, axis: usize) -> Option<&DimensionValue> {
        self.input_shape(value)?.get(axis)?.value.as_ref()
    }

    /// Drops graph inputs that no node reads.
    pub(crate) fn remove_unread_inputs(&mut self) {
        let unread: HashSet<String> = self
            .inputs()
            .filter(|input| self.consumers(&input.name).is_empty())
            .map(|input| input.name.clone())
            .collect();
        self.remove_inputs(&unread);
    }

    /// Drops graph inputs.
    pub(crate) fn remove_inputs(&mut self, names: &HashSet<String>) {
        self.graph_mut()
            .input
            .retain(|input| !names.contains(&input.name));
    }

    /// Replaces the graph's outputs.
    pub(crate) fn set_outputs(&mut self, names: &[String]) {
        self.graph_mut().output = names
            .iter()
            .map(|name| ValueInfoProto {
                name: name.clone(),
                ..ValueInfoProto::default()
            })
            .collect();
    }

    /// An initialiser as the file has it.
    pub(crate) fn initialiser(&self, value: &str) -> Option<&TensorProto> {
        self.initialisers.get(value)
    }

    /// The data of a tensor of this model, without copying it.
    pub(crate) fn tensor(&self, proto: &TensorProto) -> Result<TensorData, Error> {
        self.shell.tensor(proto)
    }

    /// Adds a constant that is one of this model's own tensors. A name that is taken is replaced.
    pub(crate) fn add_initialiser(&mut self, tensor: TensorProto) {
        self.initialisers.insert(tensor.name.clone(), tensor);
    }

    fn graph_mut(&mut self) -> &mut GraphProto {
        self.shell.proto_mut().graph.get_or_insert_default()
    }

    /// Adds a node.
    pub(crate) fn add(&mut self, node: NodeProto) -> NodeId {
        let id = self.nodes.len();
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            self.producers.insert(output.clone(), id);
        }
        for value in reads(&node) {
            let readers = self.consumers.entry(value).or_default();
            if readers.last() != Some(&id) {
                readers.push(id);
            }
        }
        self.nodes.push(Some(node));
        id
    }

    /// Takes a node out of the graph.
    pub(crate) fn remove(&mut self, id: NodeId) -> Option<NodeProto> {
        let node = self.nodes.get_mut(id)?.take()?;
        for output in &node.output {
            if self.producers.get(output) == Some(&id) {
                self.producers.remove(output);
            }
        }
        for value in reads(&node) {
            if let Some(readers) = self.consumers.get_mut(&value) {
                readers.retain(|&reader| reader != id);
            }
        }
        Some(node)
    }

    /// Puts one of our ops in the place of `removed` nodes.
    pub(crate) fn replace(
        &mut self,
        removed: &[NodeId],
        name: &str,
        spec: OpSpec,
        inputs: &[&str],
        outputs: &[&str],
    ) -> NodeId {
        let inputs: Vec<String> = inputs.iter().map(|&value| value.to_owned()).collect();
        let outputs: Vec<String> = outputs.iter().map(|&value| value.to_owned()).collect();
        for &id in removed {
            self.remove(id);
        }
        let index = self.specs.len() as i64;
        let node = NodeProto {
            name: name.to_owned(),
            op_type: spec.op_type().to_owned(),
            domain: super::DOMAIN.to_owned(),
            attribute: vec![
                int_attribute("spec", index),
                ints_attribute("columns", spec.columns()),
                int_attribute("half", spec.gives_half().into()),
                int_attribute("streams", spec.streams().map_or(-1, |count| count as i64)),
            ],
            input: inputs,
            output: outputs,
            ..NodeProto::default()
        };
        self.specs.push(spec);
        self.add(node)
    }

    /// What one of our nodes stands for.
    pub(crate) fn spec(&self, id: NodeId) -> Option<&OpSpec> {
        self.spec_of(self.node(id)?)
    }

    /// As [`Draft::spec`], of a node that is at hand.
    pub(crate) fn spec_of(&self, node: &NodeProto) -> Option<&OpSpec> {
        self.specs.get(spec_index(node)?)
    }

    /// Takes what one of our nodes stands for, in order to put it into another one.
    pub(crate) fn take_spec(&mut self, id: NodeId) -> Option<OpSpec> {
        let index = spec_index(self.node(id)?)?;
        self.specs
            .get_mut(index)
            .map(|spec| std::mem::replace(spec, OpSpec::Taken))
    }

    /// Removes nodes that nothing reads, until none is left, and initialisers that nothing reads.
    pub(crate) fn prune(&mut self) {
        let mut live: HashSet<NodeId> = HashSet::new();
        let mut wanted: Vec<String> = self.outputs().iter().map(|o| o.name.clone()).collect();
        let mut values: HashSet<String> = HashSet::new();
        while let Some(value) = wanted.pop() {
            if let Some((id, node)) = self.producer(&value)
                && live.insert(id)
            {
                wanted.extend(reads(node));
            }
            values.insert(value);
        }
        for id in self.ids() {
            if !live.contains(&id) {
                self.remove(id);
            }
        }
        self.initialisers.retain(|name, _| values.contains(name));
        self.graph_mut().value_info.clear();
    }

    /// Puts the model together again, with the table that our nodes' `spec` attributes point into.
    pub(crate) fn finish(mut self) -> (OnnxModel, Vec<OpSpec>) {
        self.prune();
        let nodes = std::mem::take(&mut self.nodes);
        let mut initialisers: Vec<TensorProto> = std::mem::take(&mut self.initialisers)
            .into_values()
            .collect();
        initialisers.sort_by(|a, b| a.name.cmp(&b.name));
        let graph = self.graph_mut();
        graph.node = nodes.into_iter().flatten().collect();
        graph.initializer = initialisers;
        (self.shell, self.specs)
    }
}

/// Which of the specs one of our nodes stands for.
fn spec_index(node: &NodeProto) -> Option<usize> {
    let index = (node.domain == super::DOMAIN).then(|| int(node, "spec"))??;
    usize::try_from(index).ok()
}
