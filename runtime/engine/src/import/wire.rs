//! A first walk over the protobuf bytes, before prost sees them.
//!
//! It does two things that prost can't: it takes the tensors' payloads out, so that they stay in
//! the mapped file instead of being copied, and it adds up how much memory the rest would take
//! once decoded, so that a small file can't ask for gigabytes (an empty attribute is two bytes in
//! the file and hundreds in memory).

use std::mem::size_of;
use std::ops::Range;

use tract_onnx::pb;

/// How deep messages may nest: 16 subgraphs of three levels each, and the tail of the last one.
const MAX_DEPTH: usize = 60;
/// Memory that the decoded graph (without tensor payloads) may take whatever the file's size.
const BASE_BUDGET: usize = 256 << 20;

/// Why the walk stopped: a byte offset in the file and a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireError {
    pub offset: usize,
    pub reason: String,
}

/// The model without its payloads.
#[derive(Debug)]
pub(crate) struct Skeleton {
    /// A valid protobuf message, where each `raw_data` is the index into `payloads` as 8 bytes.
    pub bytes: Vec<u8>,
    /// Where each tensor's `raw_data` lies in the file.
    pub payloads: Vec<Range<usize>>,
}

/// The messages of onnx.proto that can contain others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    Pair,
    Opset,
    Annotation,
    Training,
    Function,
    Segment,
}

impl Message {
    /// The message that field `number` holds, if it holds one that is ever decoded.
    fn child(self, number: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, number) {
            (Model, 7) => Graph,
            (Model, 8) | (Function, 9) => Opset,
            (Model, 14) | (Tensor, 13) | (Annotation, 2) | (Training, 3 | 4) => Pair,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Graph, 1) | (Function, 7) => Node,
            (Graph, 5) | (Attribute, 5 | 10) | (Sparse, 1 | 2) => Tensor,
            (Graph, 15) | (Attribute, 22 | 23) => Sparse,
            (Graph, 11..=13) => ValueInfo,
            (Graph, 14) => Annotation,
            (Node, 5) => Attribute,
            (Attribute, 6 | 11) | (Training, 1 | 2) => Graph,
            (Attribute, 15) | (ValueInfo, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            (Shape, 1) => Dimension,
            (Tensor, 3) => Segment,
            _ => return None,
        })
    }

    /// Bytes that the decoded message takes, without what it points to.
    fn decoded_bytes(self) -> usize {
        match self {
            Message::Model => size_of::<pb::ModelProto>(),
            Message::Graph => size_of::<pb::GraphProto>(),
            Message::Node => size_of::<pb::NodeProto>(),
            Message::Attribute => size_of::<pb::AttributeProto>(),
            Message::Tensor => size_of::<pb::TensorProto>(),
            Message::Sparse => size_of::<pb::SparseTensorProto>(),
            Message::ValueInfo => size_of::<pb::ValueInfoProto>(),
            Message::Type => size_of::<pb::TypeProto>(),
            Message::TensorType => size_of::<pb::type_proto::Tensor>(),
            Message::Shape => size_of::<pb::TensorShapeProto>(),
            Message::Dimension => size_of::<pb::tensor_shape_proto::Dimension>(),
            Message::Pair => size_of::<pb::StringStringEntryProto>(),
            Message::Opset => size_of::<pb::OperatorSetIdProto>(),
            Message::Annotation => size_of::<pb::TensorAnnotation>(),
            Message::Training => size_of::<pb::TrainingInfoProto>(),
            Message::Function => size_of::<pb::FunctionProto>(),
            Message::Segment => size_of::<pb::tensor_proto::Segment>(),
        }
    }
}

/// Takes `raw_data` out of every tensor of an encoded `ModelProto`.
pub(crate) fn strip_payloads(file: &[u8]) -> Result<Skeleton, WireError> {
    let mut walk = Walk {
        file,
        payloads: Vec::new(),
        decoded: 0,
        budget: BASE_BUDGET,
    };
    let bytes = walk.message(Message::Model, 0..file.len(), 0)?;
    Ok(Skeleton {
        bytes,
        payloads: walk.payloads,
    })
}

struct Walk<'a> {
    file: &'a [u8],
    payloads: Vec<Range<usize>>,
    /// Estimate of the decoded size so far.
    decoded: usize,
    /// What `decoded` may reach: grows with the bytes that are decoded one to one.
    budget: usize,
}

impl Walk<'_> {
    fn error<T>(&self, offset: usize, reason: impl Into<String>) -> Result<T, WireError> {
        Err(WireError {
            offset,
            reason: reason.into(),
        })
    }

    fn charge(&mut self, offset: usize, bytes: usize) -> Result<(), WireError> {
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > self.budget {
            let budget = self.budget >> 20;
            return self.error(
                offset,
                format!("the graph would need over {budget} MiB in memory"),
            );
        }
        Ok(())
    }

    /// One varint at `*at`, not beyond `end`.
    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, WireError> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.file.get(*at).filter(|_| *at < end) else {
                return self.error(start, "a number is cut off");
            };
            *at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.error(start, "a number is longer than 64 bits")
    }

    fn message(
        &mut self,
        kind: Message,
        range: Range<usize>,
        depth: usize,
    ) -> Result<Vec<u8>, WireError> {
        if depth > MAX_DEPTH {
            return self.error(range.start, "messages nest too deep (over 16 subgraphs)");
        }
        // Twice: a growing Vec of messages holds up to twice its content.
        self.charge(range.start, 2 * kind.decoded_bytes())?;
        let mut out = Vec::new();
        let mut at = range.start;
        let mut has_payload = false;
        while at < range.end {
            let start = at;
            let key = self.varint(&mut at, range.end)?;
            let (number, wire_type) = (key >> 3, key & 7);
            match wire_type {
                0 => {
                    self.varint(&mut at, range.end)?;
                }
                1 | 5 => {
                    let size = if wire_type == 1 { 8 } else { 4 };
                    if range.end - at < size {
                        return self.error(start, format!("field {number} is cut off"));
                    }
                    at += size;
                }
                2 => {
                    let length = self.varint(&mut at, range.end)?;
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    if length > range.end - at {
                        return self.error(
                            start,
                            format!(
                                "field {number} says it has {length} bytes, {} remain",
                                range.end - at
                            ),
                        );
                    }
                    let content = at..at + length;
                    at = content.end;
                    if kind == Message::Tensor && number == 9 {
                        if has_payload {
                            return self.error(start, "a tensor has raw_data twice");
                        }
                        has_payload = true;
                        if length > 0 {
                            let index = self.payloads.len() as u64;
                            self.payloads.push(content);
                            self.charge(start, 64)?;
                            put_field(&mut out, number, &index.to_le_bytes());
                        }
                        continue;
                    }
                    if let Some(child) = kind.child(number) {
                        let inner = self.message(child, content, depth + 1)?;
                        put_field(&mut out, number, &inner);
                        continue;
                    }
                    // A string, or packed numbers: at worst one byte each that become eight,
                    // in a Vec twice as long as it needs.
                    self.budget = self.budget.saturating_add(16 * length);
                    self.charge(start, 48 + 16 * length)?;
                }
                _ => {
                    return self.error(start, format!("wire type {wire_type} is not used by ONNX"));
                }
            }
            if number == 0 {
                return self.error(start, "field number 0");
            }
            if wire_type != 2 {
                self.charge(start, 16)?;
            }
            out.extend_from_slice(&self.file[start..at]);
        }
        Ok(out)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_field(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn model() -> pb::ModelProto {
        let tensor = pb::TensorProto {
            name: "w".into(),
            dims: vec![2],
            data_type: 1,
            raw_data: vec![7; 300],
            ..Default::default()
        };
        let graph = pb::GraphProto {
            initializer: vec![tensor],
            ..Default::default()
        };
        pb::ModelProto {
            ir_version: 8,
            graph: Some(graph),
            ..Default::default()
        }
    }

    #[test]
    fn payloads_stay_in_the_file() {
        let file = model().encode_to_vec();
        let skeleton = strip_payloads(&file).unwrap();
        assert_eq!(skeleton.payloads.len(), 1);
        assert_eq!(file[skeleton.payloads[0].clone()], [7; 300]);
        let decoded = pb::ModelProto::decode(&*skeleton.bytes).unwrap();
        let mut expected = model();
        expected.graph.as_mut().unwrap().initializer[0].raw_data = vec![0; 8];
        assert_eq!(decoded, expected);
    }

    #[test]
    fn a_small_file_cannot_ask_for_much_memory() {
        let mut node = Vec::new();
        for _ in 0..2_000_000 {
            put_field(&mut node, 5, &[]);
        }
        let mut graph = Vec::new();
        put_field(&mut graph, 1, &node);
        let mut file = Vec::new();
        put_field(&mut file, 7, &graph);
        assert!(file.len() < 5 << 20);
        assert!(
            strip_payloads(&file)
                .unwrap_err()
                .reason
                .contains("in memory")
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let mut inner = Vec::new();
        for _ in 0..40 {
            for field in [6, 5, 1] {
                let mut outer = Vec::new();
                put_field(&mut outer, field, &inner);
                inner = outer;
            }
        }
        let mut file = Vec::new();
        put_field(&mut file, 7, &inner);
        assert!(strip_payloads(&file).is_err());
    }
}
