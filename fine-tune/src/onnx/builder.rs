//! A graph under construction: nodes in running order, constants, and their names.

use super::external::{ExternalData, WriteError};
use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type,
};
use super::{IR_VERSION, MICROSOFT, OPSET};
use std::collections::BTreeMap;

/// Constants of fewer bytes stay in the model file.
const EXTERNAL_FROM: usize = 1024;

/// A value in the graph: an input, a constant or what a node made. Known by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// The value's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// Byte: packed codes.
    U8,
    /// 64-bit integer: token ids, positions, shapes.
    I64,
    /// Truth value: masks.
    Bool,
}

impl Element {
    /// ONNX's number for this type.
    pub fn code(self) -> i32 {
        match self {
            Self::F32 => data_type::FLOAT,
            Self::F16 => data_type::FLOAT16,
            Self::U8 => data_type::UINT8,
            Self::I64 => data_type::INT64,
            Self::Bool => data_type::BOOL,
        }
    }
}

/// One dimension of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known when the model is exported.
    Size(usize),
    /// Known when the model runs.
    Symbol(&'static str),
    /// Known when the model runs, and like no other.
    Own,
}

/// Symbols of the dimensions that are known only when the model runs.
pub mod dims {
    use super::Dim;
    /// Sequences side by side.
    pub const BATCH: Dim = Dim::Symbol("batch");
    /// Tokens given in this run.
    pub const SEQUENCE: Dim = Dim::Symbol("sequence");
    /// Tokens in the cache before this run.
    pub const PAST: Dim = Dim::Symbol("past");
    /// Tokens in the cache after this run.
    pub const TOTAL: Dim = Dim::Symbol("total");
}

/// A named constant of a node.
#[derive(Clone, Debug)]
pub struct Attribute(AttributeProto);

impl Attribute {
    /// An integer.
    pub fn int(name: &str, value: i64) -> Self {
        Self(AttributeProto {
            name: name.into(),
            i: Some(value),
            r#type: attribute_type::INT,
            ..Default::default()
        })
    }

    /// A float.
    pub fn float(name: &str, value: f32) -> Self {
        Self(AttributeProto {
            name: name.into(),
            f: Some(value),
            r#type: attribute_type::FLOAT,
            ..Default::default()
        })
    }

    /// A string.
    pub fn string(name: &str, value: &str) -> Self {
        Self(AttributeProto {
            name: name.into(),
            s: Some(value.as_bytes().to_vec()),
            r#type: attribute_type::STRING,
            ..Default::default()
        })
    }
}

/// Collects nodes and constants; big constants go straight to the data file.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: GraphProto,
    data: ExternalData,
    /// Index into `graph.initializer` by name.
    constants: BTreeMap<String, usize>,
}

impl GraphBuilder {
    /// An empty graph called `name` whose big constants go to `data`.
    pub fn new(name: &str, data: ExternalData) -> Self {
        let graph = GraphProto {
            name: name.into(),
            ..Default::default()
        };
        Self {
            graph,
            data,
            constants: BTreeMap::new(),
        }
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, element: Element, shape: &[Dim]) -> Value {
        self.graph.input.push(value_info(name, element, shape));
        Value(name.into())
    }

    /// Makes `value` an output.
    pub fn output(&mut self, value: &Value, element: Element, shape: &[Dim]) {
        self.graph
            .output
            .push(value_info(value.name(), element, shape));
    }

    /// Adds a node of ONNX's own with one output, which is named like the node.
    pub fn op(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[Attribute],
    ) -> Value {
        let inputs: Vec<_> = inputs.iter().map(|value| Some(*value)).collect();
        self.node("", op, name, &inputs, &[name], attributes);
        Value(name.into())
    }

    /// Adds a node of com.microsoft with one f32 output of the given shape, which is named like the node.
    /// The shape is written down, because ONNX's own shape inference doesn't know these operators.
    pub fn microsoft_op(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[Option<&Value>],
        attributes: &[Attribute],
        shape: &[Dim],
    ) -> Value {
        self.node(MICROSOFT, op, name, inputs, &[name], attributes);
        self.graph
            .value_info
            .push(value_info(name, Element::F32, shape));
        Value(name.into())
    }

    /// Adds a node. `None` among the inputs is an optional input left out.
    pub fn node(
        &mut self,
        domain: &str,
        op: &str,
        name: &str,
        inputs: &[Option<&Value>],
        outputs: &[&str],
        attributes: &[Attribute],
    ) -> Vec<Value> {
        self.graph.node.push(NodeProto {
            input: inputs
                .iter()
                .map(|value| value.map(|value| value.0.clone()).unwrap_or_default())
                .collect(),
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            name: name.into(),
            op_type: op.into(),
            attribute: attributes
                .iter()
                .map(|attribute| attribute.0.clone())
                .collect(),
            domain: domain.into(),
        });
        outputs.iter().map(|&name| Value(name.to_owned())).collect()
    }

    /// Adds a constant of `shape` from its little-endian bytes.
    ///
    /// # Errors
    /// When the data file can't be written.
    pub fn constant(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<Value, WriteError> {
        let mut tensor = TensorProto {
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: element.code(),
            name: name.into(),
            ..Default::default()
        };
        if bytes.len() < EXTERNAL_FROM {
            tensor.raw_data = Some(bytes.to_vec());
        } else {
            let extent = self.data.append(bytes)?;
            let entry = |key: &str, value: String| StringStringEntryProto {
                key: key.into(),
                value,
            };
            tensor.external_data = vec![
                entry("location", self.data.location()),
                entry("offset", extent.offset.to_string()),
                entry("length", extent.length.to_string()),
            ];
            tensor.data_location = Some(1);
        }
        self.add_constant(tensor);
        Ok(Value(name.into()))
    }

    /// Adds an f32 constant.
    ///
    /// # Errors
    /// When the data file can't be written.
    pub fn constant_f32(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Value, WriteError> {
        self.constant(name, Element::F32, shape, bytemuck::cast_slice(values))
    }

    /// A small i64 constant (a shape, axes, an index). Asking again for the same values gives the same constant.
    pub fn integers(&mut self, shape: &[usize], values: &[i64]) -> Value {
        let list: Vec<String> = values.iter().map(i64::to_string).collect();
        let rank = if shape.is_empty() { "scalar" } else { "list" };
        let name = format!("const.i64.{rank}.{}", list.join("_"));
        if !self.constants.contains_key(&name) {
            self.add_constant(TensorProto {
                dims: shape.iter().map(|&size| size as i64).collect(),
                data_type: data_type::INT64,
                name: name.clone(),
                raw_data: Some(bytemuck::cast_slice(values).to_vec()),
                ..Default::default()
            });
        }
        Value(name)
    }

    /// A scalar f32 constant. Asking again for the same value gives the same constant.
    pub fn scalar(&mut self, value: f32) -> Value {
        let name = format!("const.f32.scalar.{value:e}");
        if !self.constants.contains_key(&name) {
            self.add_constant(TensorProto {
                data_type: data_type::FLOAT,
                name: name.clone(),
                raw_data: Some(value.to_le_bytes().to_vec()),
                ..Default::default()
            });
        }
        Value(name)
    }

    /// A second constant made of the very bytes of `original`, under another name and shape.
    /// `None` when `original` isn't a constant of this graph.
    pub fn share(&mut self, name: &str, shape: &[usize], original: &Value) -> Option<Value> {
        let index = *self.constants.get(original.name())?;
        let mut tensor = self.graph.initializer.get(index)?.clone();
        tensor.name = name.into();
        tensor.dims = shape.iter().map(|&size| size as i64).collect();
        self.add_constant(tensor);
        Some(Value(name.into()))
    }

    /// Ends the data file and gives the model, with `metadata` in the order of its keys.
    ///
    /// # Errors
    /// When the data file can't be written.
    pub fn finish(self, metadata: BTreeMap<String, String>) -> Result<ModelProto, WriteError> {
        self.data.finish()?;
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: domain.into(),
            version,
        };
        Ok(ModelProto {
            ir_version: IR_VERSION,
            producer_name: "furlong".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            opset_import: vec![opset("", OPSET), opset(MICROSOFT, 1)],
            metadata_props: metadata
                .into_iter()
                .map(|(key, value)| StringStringEntryProto { key, value })
                .collect(),
        })
    }

    fn add_constant(&mut self, tensor: TensorProto) {
        self.constants
            .insert(tensor.name.clone(), self.graph.initializer.len());
        self.graph.initializer.push(tensor);
    }
}

fn value_info(name: &str, element: Element, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|dim| DimensionProto {
            value: match dim {
                Dim::Size(size) => Some(DimensionValue::Size(*size as i64)),
                Dim::Symbol(name) => Some(DimensionValue::Symbol((*name).into())),
                Dim::Own => None,
            },
        })
        .collect();
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: element.code(),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}
