//! The types that a tensor's elements can have, and how many bytes they take.

use tract_onnx::pb;

pub use pb::tensor_proto::DataType as ElementType;

/// Bytes that `elements` elements of `element` take, `None` for strings and nonsense.
pub(super) fn byte_length(element: ElementType, elements: usize) -> Option<usize> {
    use ElementType::*;
    let bits = match element {
        Undefined | String => return None,
        Uint4 | Int4 | Float4e2m1 => 4,
        Uint8 | Int8 | Bool | Float8e4m3fn | Float8e4m3fnuz | Float8e5m2 | Float8e5m2fnuz => 8,
        Uint16 | Int16 | Float16 | Bfloat16 => 16,
        Float | Int32 | Uint32 => 32,
        Int64 | Double | Uint64 | Complex64 => 64,
        Complex128 => 128,
    };
    elements.checked_mul(bits).map(|b| b.div_ceil(8))
}

/// The content of the typed fields as raw bytes. A wrong length is found by the caller.
pub(super) fn typed_bytes(element: ElementType, proto: &pb::TensorProto) -> Vec<u8> {
    use ElementType::*;
    let ints = &proto.int32_data;
    match element {
        Float | Complex64 => proto
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Double | Complex128 => proto
            .double_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Int64 => proto
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Uint64 => proto
            .uint64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Uint32 => proto
            .uint64_data
            .iter()
            .flat_map(|v| (*v as u32).to_le_bytes())
            .collect(),
        Int32 => ints.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Int16 | Uint16 | Float16 | Bfloat16 => ints
            .iter()
            .flat_map(|v| (*v as u16).to_le_bytes())
            .collect(),
        Undefined | String => Vec::new(),
        _ => ints.iter().map(|v| *v as u8).collect(),
    }
}
