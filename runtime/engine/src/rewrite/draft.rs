//! A graph that can be edited: nodes with who makes and who reads each value, constants, and weights taken out.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

use super::spec::OpSpec;
use crate::Error;
use crate::import::TensorBytes;

/// Finds the bytes of an initialiser: inline ones, or those of a checked, mapped external file.
pub(crate) type Resolve = Box<dyn Fn(&TensorProto) -> Result<TensorBytes, Error> + Send + Sync>;

/// A node's place in a [`Draft`]. It stays valid, and names the same node, until that node is removed.
pub(crate) type NodeId = usize;

/// The graph of a model while it is being rewritten.
pub(crate) struct Draft {
    path: PathBuf,
    /// The model without the nodes and initialisers of its main graph.
    shell: ModelProto,
    nodes: Vec<Option<NodeProto>>,
    initialisers: HashMap<String, TensorProto>,
    producers: HashMap<String, NodeId>,
    consumers: HashMap<String, Vec<NodeId>>,
    resolve: Resolve,
    specs: Vec<OpSpec>,
}

impl Draft {
    /// Takes a model apart. `resolve` finds the bytes of its initialisers.
    pub(crate) fn new(path: &Path, mut model: ModelProto, resolve: Resolve) -> Draft {
        let graph = model.graph.get_or_insert_default();
        let nodes = std::mem::take(&mut graph.node);
        let initialisers = std::mem::take(&mut graph.initializer)
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        let mut draft = Draft {
            path: path.to_owned(),
            shell: model,
            nodes: Vec::with_capacity(nodes.len()),
            initialisers,
            producers: HashMap::new(),
            consumers: HashMap::new(),
            resolve,
            specs: Vec::new(),
        };
        for node in nodes {
            draft.add(node);
        }
        draft
    }

    /// The file the model came from, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Values of `metadata_props`.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shell.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()))
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
        self.ids().filter(|&id| self.node(id).is_some_and(|node| node.op_type == op_type)).collect()
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
        self.consumers.get(value).map(Vec::as_slice).unwrap_or_default()
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
        let graph = self.shell.graph.as_ref();
        graph
            .into_iter()
            .flat_map(|graph| &graph.input)
            .filter(|input| !self.initialisers.contains_key(&input.name))
    }

    /// The graph's outputs.
    pub(crate) fn outputs(&self) -> &[ValueInfoProto] {
        self.shell.graph.as_ref().map(|graph| graph.output.as_slice()).unwrap_or_default()
    }

    /// Whether a value is an output of the graph.
    pub(crate) fn is_output(&self, value: &str) -> bool {
        self.outputs().iter().any(|output| output.name == value)
    }

    /// Whether a value is an input of the graph.
    pub(crate) fn is_input(&self, value: &str) -> bool {
        self.inputs().any(|input| input.name == value)
    }

    /// The name of a symbolic, or the size of a fixed, dimension of a graph input.
    pub(crate) fn input_dims(&self, value: &str) -> Option<Vec<Option<i64>>> {
        use tract_onnx::pb::{tensor_shape_proto::dimension::Value, type_proto};
        let input = self.inputs().find(|input| input.name == value)?;
        let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
        let dims = tensor.shape.as_ref()?.dim.iter().map(|dim| match dim.value {
            Some(Value::DimValue(size)) => Some(size),
            _ => None,
        });
        Some(dims.collect())
    }

    /// Drops graph inputs.
    pub(crate) fn remove_inputs(&mut self, names: &HashSet<String>) {
        self.shell.graph.get_or_insert_default().input.retain(|i| !names.contains(&i.name));
    }

    /// Replaces the graph's outputs.
    pub(crate) fn set_outputs(&mut self, names: &[String]) {
        let graph = self.shell.graph.get_or_insert_default();
        graph.output = names
            .iter()
            .map(|name| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() })
            .collect();
    }

    /// An initialiser as the file has it.
    pub(crate) fn initialiser(&self, value: &str) -> Option<&TensorProto> {
        self.initialisers.get(value)
    }

    /// The bytes of an initialiser, little-endian and dense.
    pub(crate) fn bytes(&self, tensor: &TensorProto) -> Result<TensorBytes, Error> {
        (self.resolve)(tensor)
    }

    /// Adds an initialiser. A name that is taken is replaced.
    pub(crate) fn add_initialiser(&mut self, tensor: TensorProto) {
        self.initialisers.insert(tensor.name.clone(), tensor);
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
            attribute: vec![int_attribute("spec", index), ints_attribute("columns", spec.columns())],
            input: inputs,
            output: outputs,
            ..NodeProto::default()
        };
        self.specs.push(spec);
        self.add(node)
    }

    /// What one of our nodes stands for.
    pub(crate) fn spec(&self, id: NodeId) -> Option<&OpSpec> {
        self.specs.get(self.spec_index(id)?)
    }

    /// Takes what one of our nodes stands for, in order to put it into another one.
    pub(crate) fn take_spec(&mut self, id: NodeId) -> Option<OpSpec> {
        let index = self.spec_index(id)?;
        self.specs.get_mut(index).map(|spec| std::mem::replace(spec, OpSpec::Taken))
    }

    fn spec_index(&self, id: NodeId) -> Option<usize> {
        let node = self.node(id).filter(|node| node.domain == super::DOMAIN)?;
        usize::try_from(int(node, "spec")?).ok()
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
        let graph = self.shell.graph.get_or_insert_default();
        graph.value_info.clear();
    }

    /// Puts the model together again, with the table that our nodes' `spec` attributes point into.
    pub(crate) fn finish(mut self) -> (ModelProto, Vec<OpSpec>) {
        self.prune();
        let graph: &mut GraphProto = self.shell.graph.get_or_insert_default();
        graph.node = self.nodes.into_iter().flatten().collect();
        let mut initialisers: Vec<TensorProto> = self.initialisers.into_values().collect();
        initialisers.sort_by(|a, b| a.name.cmp(&b.name));
        graph.initializer = initialisers;
        (self.shell, self.specs)
    }
}

/// The values a node reads: its inputs, and what the graphs inside it take from around them.
fn reads(node: &NodeProto) -> Vec<String> {
    let mut values: Vec<String> =
        node.input.iter().filter(|name| !name.is_empty()).cloned().collect();
    for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        values.extend(captured(graph));
    }
    values
}

/// The values a nested graph takes from around it.
fn captured(graph: &GraphProto) -> Vec<String> {
    let mut own: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    own.extend(graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)));
    let inner = graph.node.iter().flat_map(reads);
    let results = graph.output.iter().map(|output| output.name.clone());
    inner.chain(results).filter(|value| !own.contains(value.as_str())).collect()
}

/// A node's input at `index`; `None` when it is left out.
pub(crate) fn input(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
}

/// A node's output at `index`; `None` when it is left out.
pub(crate) fn output(node: &NodeProto, index: usize) -> Option<&str> {
    node.output.get(index).map(String::as_str).filter(|name| !name.is_empty())
}

/// A node's attribute.
pub(crate) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
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
