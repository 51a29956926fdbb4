//! Arrays of a file as the engine's arrays, and back.

use anyhow::Result;
use furlong::npz::{Dtype, NpyArray};
use furlong_runtime::{Array, ArrayData};
use half::f16;

/// Takes an array from a file.
///
/// # Errors
/// A length that doesn't fit the shape.
pub fn from_npy(array: NpyArray) -> Result<Array> {
    let bytes = array.data.as_slice();
    let data = match array.dtype {
        Dtype::Bool => ArrayData::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
        Dtype::I8 => numbers(bytes, i8::from_le_bytes).into(),
        Dtype::I16 => numbers(bytes, i16::from_le_bytes).into(),
        Dtype::I32 => numbers(bytes, i32::from_le_bytes).into(),
        Dtype::I64 => numbers(bytes, i64::from_le_bytes).into(),
        Dtype::U8 => ArrayData::U8(array.data),
        Dtype::U16 => numbers(bytes, u16::from_le_bytes).into(),
        Dtype::U32 => numbers(bytes, u32::from_le_bytes).into(),
        Dtype::U64 => numbers(bytes, u64::from_le_bytes).into(),
        Dtype::F16 => numbers(bytes, f16::from_le_bytes).into(),
        Dtype::F32 => numbers(bytes, f32::from_le_bytes).into(),
        Dtype::F64 => numbers(bytes, f64::from_le_bytes).into(),
    };
    Ok(Array::new(array.shape, data)?)
}

/// Makes an array for a file.
///
/// # Errors
/// A type that the format doesn't have.
pub fn into_npy(array: Array) -> Result<NpyArray> {
    let (shape, data) = array.into_parts();
    let (dtype, data) = match data {
        ArrayData::Bool(x) => (Dtype::Bool, x.into_iter().map(u8::from).collect()),
        ArrayData::I8(x) => (Dtype::I8, bytes(&x, i8::to_le_bytes)),
        ArrayData::I16(x) => (Dtype::I16, bytes(&x, i16::to_le_bytes)),
        ArrayData::I32(x) => (Dtype::I32, bytes(&x, i32::to_le_bytes)),
        ArrayData::I64(x) => (Dtype::I64, bytes(&x, i64::to_le_bytes)),
        ArrayData::U8(x) => (Dtype::U8, x),
        ArrayData::U16(x) => (Dtype::U16, bytes(&x, u16::to_le_bytes)),
        ArrayData::U32(x) => (Dtype::U32, bytes(&x, u32::to_le_bytes)),
        ArrayData::U64(x) => (Dtype::U64, bytes(&x, u64::to_le_bytes)),
        ArrayData::F16(x) => (Dtype::F16, bytes(&x, f16::to_le_bytes)),
        ArrayData::F32(x) => (Dtype::F32, bytes(&x, f32::to_le_bytes)),
        ArrayData::F64(x) => (Dtype::F64, bytes(&x, f64::to_le_bytes)),
        _ => anyhow::bail!("an output has a type that npz files don't hold"),
    };
    Ok(NpyArray { dtype, shape, data })
}

fn numbers<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| from(*chunk)).collect()
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| to(number)).collect()
}
