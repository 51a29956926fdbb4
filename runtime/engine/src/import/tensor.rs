//! Each tensor against the bytes that are really there.
//!
//! After [`check_all`] every numeric tensor that has elements lives in one table, whether it came
//! as `raw_data`, in a typed field or in an external file, and its proto only points there.

use std::ops::Range;
use std::path::Path;

use tract_onnx::pb::{self, tensor_proto::DataLocation};

use super::element::{ElementType, byte_length, typed_bytes};
use super::external::ExternalFiles;
use super::resolver::TableResolver;
use super::{EXPORT_AGAIN, MAX_RANK, TensorBytes, invalid};
use crate::Error;

/// Elements a tensor may claim, counting zero dimensions as one.
const MAX_ELEMENTS: usize = 1 << 40;

/// One tensor: its type, its shape, and its bytes (little-endian, row-major).
#[derive(Debug, Clone)]
pub struct TensorData {
    /// The type of each element.
    pub element: ElementType,
    /// The length of each axis.
    pub dims: Vec<usize>,
    /// The elements, in the mapped file where possible. The length is checked: it is exactly
    /// what `element` and `dims` ask for.
    pub bytes: TensorBytes,
}

/// The shape of `proto`, its number of elements, and its type.
fn shape_of(
    path: &Path,
    place: &str,
    proto: &pb::TensorProto,
) -> Result<(ElementType, Vec<usize>, usize), Error> {
    let refuse = |reason: String| invalid(path, place, reason, EXPORT_AGAIN);
    let element = ElementType::try_from(proto.data_type)
        .ok()
        .filter(|e| *e != ElementType::Undefined)
        .ok_or_else(|| refuse(format!("element type {} is unknown", proto.data_type)))?;
    if proto.dims.len() > MAX_RANK {
        return Err(refuse(format!(
            "it has {} axes, at most {MAX_RANK} are read",
            proto.dims.len()
        )));
    }
    let mut dims = Vec::with_capacity(proto.dims.len());
    let mut span = 1usize;
    for &dim in &proto.dims {
        let dim =
            usize::try_from(dim).map_err(|_| refuse(format!("dimension {dim} is negative")))?;
        span = span
            .checked_mul(dim.max(1))
            .filter(|s| *s <= MAX_ELEMENTS)
            .ok_or_else(|| refuse(format!("shape {:?} is too large", proto.dims)))?;
        dims.push(dim);
    }
    let elements = dims.iter().product();
    Ok((element, dims, elements))
}

/// Where a checked tensor's payload is: `None` for one without elements.
fn table_index(proto: &pb::TensorProto) -> Option<usize> {
    if proto.data_location != Some(DataLocation::External as i32) {
        return None;
    }
    proto
        .external_data
        .iter()
        .find(|p| p.key == "offset")?
        .value
        .parse()
        .ok()
}

/// Makes `proto` point at `index` in the table, and nowhere else.
fn point_at(proto: &mut pb::TensorProto, index: usize, length: usize) {
    let pair = |key: &str, value: String| pb::StringStringEntryProto {
        key: key.into(),
        value,
    };
    proto.raw_data = Vec::new();
    proto.float_data = Vec::new();
    proto.double_data = Vec::new();
    proto.int32_data = Vec::new();
    proto.int64_data = Vec::new();
    proto.uint64_data = Vec::new();
    proto.data_location = Some(DataLocation::External as i32);
    proto.external_data = vec![
        pair("location", TableResolver::LOCATION.into()),
        pair("offset", index.to_string()),
        pair("length", length.to_string()),
    ];
}

/// The proto of a tensor that lies at `index` in the table.
pub(super) fn describe(
    path: &Path,
    name: &str,
    element: ElementType,
    dims: &[usize],
    bytes: &TensorBytes,
    index: usize,
) -> Result<pb::TensorProto, Error> {
    let mut proto = pb::TensorProto {
        name: name.to_string(),
        data_type: element as i32,
        dims: dims
            .iter()
            .map(|d| i64::try_from(*d).unwrap_or(-1))
            .collect(),
        ..Default::default()
    };
    let (_, _, elements) = shape_of(path, name, &proto)?;
    if byte_length(element, elements) != Some(bytes.len()) {
        let reason = format!(
            "{} bytes don't make {dims:?} of {}",
            bytes.len(),
            element.as_str_name()
        );
        return Err(invalid(path, name, reason, EXPORT_AGAIN));
    }
    if !bytes.is_empty() {
        point_at(&mut proto, index, bytes.len());
    }
    Ok(proto)
}

/// The data of a checked tensor.
pub(super) fn data_of(
    path: &Path,
    proto: &pb::TensorProto,
    table: &[TensorBytes],
) -> Result<TensorData, Error> {
    let place = format!("tensor {:?}", proto.name);
    let (element, dims, elements) = shape_of(path, &place, proto)?;
    let wanted = byte_length(element, elements);
    let bytes = match table_index(proto) {
        Some(index) => table.get(index).cloned(),
        None => Some(TensorBytes::owned(Vec::new())),
    };
    bytes
        .filter(|b| wanted == Some(b.len()))
        .map(|bytes| TensorData {
            element,
            dims,
            bytes,
        })
        .ok_or_else(|| invalid(path, place, "it has no numbers to read", EXPORT_AGAIN))
}

/// Checks every tensor of the model and moves its data into the table that is returned.
pub(super) fn check_all(
    path: &Path,
    file: &TensorBytes,
    payloads: &[Range<usize>],
    external: &mut ExternalFiles,
    model: &mut pb::ModelProto,
) -> Result<Vec<TensorBytes>, Error> {
    let mut check = Check {
        path,
        file,
        payloads,
        external,
        table: Vec::new(),
    };
    // Training is not our business, and local functions are refused as unsupported operators.
    model.training_info.clear();
    if let Some(graph) = &mut model.graph {
        check.graph(graph)?;
    }
    for function in &mut model.functions {
        check.nodes(&mut function.node)?;
    }
    Ok(check.table)
}

struct Check<'a> {
    path: &'a Path,
    file: &'a TensorBytes,
    payloads: &'a [Range<usize>],
    external: &'a mut ExternalFiles,
    table: Vec<TensorBytes>,
}

impl Check<'_> {
    fn refuse<T>(&self, place: &str, reason: impl Into<String>) -> Result<T, Error> {
        Err(invalid(self.path, place, reason, EXPORT_AGAIN))
    }

    fn graph(&mut self, graph: &mut pb::GraphProto) -> Result<(), Error> {
        for tensor in &mut graph.initializer {
            self.tensor(format!("tensor {:?}", tensor.name), tensor)?;
        }
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |v| &v.name);
            return self.refuse(
                &format!("tensor {name:?}"),
                "sparse tensors are not supported",
            );
        }
        for value in graph
            .input
            .iter()
            .chain(&graph.output)
            .chain(&graph.value_info)
        {
            self.value(value)?;
        }
        self.nodes(&mut graph.node)
    }

    fn value(&self, value: &pb::ValueInfoProto) -> Result<(), Error> {
        let Some(pb::type_proto::Value::TensorType(tensor)) =
            value.r#type.as_ref().and_then(|t| t.value.as_ref())
        else {
            return Ok(());
        };
        let dims = tensor.shape.as_ref().map_or(&[][..], |s| &s.dim);
        let place = format!("value {:?}", value.name);
        if dims.len() > MAX_RANK {
            return self.refuse(
                &place,
                format!("it has {} axes, at most {MAX_RANK} are read", dims.len()),
            );
        }
        let mut span = 1u64;
        for dim in dims {
            use pb::tensor_shape_proto::dimension::Value;
            match &dim.value {
                Some(Value::DimValue(v)) => {
                    let v = u64::try_from(*v).unwrap_or(1).max(1);
                    span = span.saturating_mul(v);
                }
                Some(Value::DimParam(name)) if name.len() > 256 => {
                    return self.refuse(&place, "a dimension's name is over 256 bytes long");
                }
                _ => {}
            }
        }
        if span > MAX_ELEMENTS as u64 {
            return self.refuse(&place, "its shape is too large");
        }
        Ok(())
    }

    fn nodes(&mut self, nodes: &mut [pb::NodeProto]) -> Result<(), Error> {
        for node in nodes {
            let name = super::names::label(node).to_string();
            for attribute in &mut node.attribute {
                let place = format!("node {name:?}, attribute {:?}", attribute.name);
                for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                    self.tensor(place.clone(), tensor)?;
                }
                if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
                    return self.refuse(&place, "sparse tensors are not supported");
                }
                for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    self.graph(graph)?;
                }
            }
        }
        Ok(())
    }

    fn tensor(&mut self, place: String, proto: &mut pb::TensorProto) -> Result<(), Error> {
        let (element, dims, elements) = shape_of(self.path, &place, proto)?;
        if proto.segment.is_some() {
            return self.refuse(&place, "tensors in segments are not supported");
        }
        if element == ElementType::String {
            if proto.string_data.len() != elements {
                return self.refuse(
                    &place,
                    format!("{} strings don't make {dims:?}", proto.string_data.len()),
                );
            }
            if !proto.raw_data.is_empty()
                || proto.data_location == Some(DataLocation::External as i32)
            {
                return self.refuse(&place, "strings can't be raw or external data");
            }
            return Ok(());
        }
        let Some(wanted) = byte_length(element, elements) else {
            return self.refuse(&place, format!("shape {dims:?} is too large"));
        };
        let is_external = proto.data_location == Some(DataLocation::External as i32);
        let bytes = if is_external {
            if !proto.raw_data.is_empty() {
                return self.refuse(&place, "it has both raw and external data");
            }
            self.external_bytes(&place, proto, wanted)?
        } else if !proto.raw_data.is_empty() {
            self.payload(&place, proto)?
        } else {
            TensorBytes::owned(typed_bytes(element, proto))
        };
        if bytes.len() != wanted {
            return self.refuse(
                &place,
                format!(
                    "{dims:?} of {} is {wanted} bytes, {} are there",
                    element.as_str_name(),
                    bytes.len()
                ),
            );
        }
        if wanted == 0 {
            *proto = pb::TensorProto {
                name: std::mem::take(&mut proto.name),
                dims: std::mem::take(&mut proto.dims),
                data_type: proto.data_type,
                ..Default::default()
            };
            return Ok(());
        }
        point_at(proto, self.table.len(), wanted);
        self.table.push(bytes);
        Ok(())
    }

    /// `raw_data`, which the wire walk replaced by its index.
    fn payload(&self, place: &str, proto: &pb::TensorProto) -> Result<TensorBytes, Error> {
        <[u8; 8]>::try_from(&*proto.raw_data)
            .ok()
            .and_then(|index| usize::try_from(u64::from_le_bytes(index)).ok())
            .and_then(|index| self.payloads.get(index))
            .and_then(|range| self.file.slice(range.clone()))
            .map_or_else(|| self.refuse(place, "its data is lost"), Ok)
    }

    fn external_bytes(
        &mut self,
        place: &str,
        proto: &pb::TensorProto,
        wanted: usize,
    ) -> Result<TensorBytes, Error> {
        let entry = |key: &str| {
            proto
                .external_data
                .iter()
                .find(|p| p.key == key)
                .map(|p| &p.value)
        };
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => match text.trim().parse::<usize>() {
                Ok(value) => Ok(Some(value)),
                Err(_) => self.refuse(place, format!("external data {key} {text:?} is not a size")),
            },
        };
        let Some(location) = entry("location") else {
            return self.refuse(place, "its external data has no location");
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if length.is_some_and(|l| l != wanted) {
            return self.refuse(
                place,
                format!(
                    "its shape asks for {wanted} bytes, its external data has {}",
                    length.unwrap_or(0)
                ),
            );
        }
        let file = self.external.open(self.path, place, location)?;
        let end = offset.checked_add(wanted);
        match end.and_then(|end| file.slice(offset..end)) {
            Some(bytes) => Ok(bytes),
            None => self.refuse(
                place,
                format!(
                    "bytes {offset} + {wanted} lie beyond {location:?} of {} bytes",
                    file.len()
                ),
            ),
        }
    }
}
