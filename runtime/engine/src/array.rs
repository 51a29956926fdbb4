//! Arrays at the edge of the engine: a shape and numbers of one type, owned, row-major.

use half::f16;
use tract_core::internal::{DatumType, Tensor, TractResult, bail};

use crate::Error;
use crate::import::{ElementType, TensorData};

/// The numbers of an [`Array`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ArrayData {
    /// 16-bit floats.
    F16(Vec<f16>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// Bytes.
    U8(Vec<u8>),
    /// Unsigned 16-bit integers.
    U16(Vec<u16>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// Runs `$body` with `$values` bound to the vector inside `$data`, whatever its type.
macro_rules! with_values {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            ArrayData::F16($values) => $body,
            ArrayData::F32($values) => $body,
            ArrayData::F64($values) => $body,
            ArrayData::I8($values) => $body,
            ArrayData::I16($values) => $body,
            ArrayData::I32($values) => $body,
            ArrayData::I64($values) => $body,
            ArrayData::U8($values) => $body,
            ArrayData::U16($values) => $body,
            ArrayData::U32($values) => $body,
            ArrayData::U64($values) => $body,
            ArrayData::Bool($values) => $body,
        }
    };
}

macro_rules! from_vec {
    ($($variant:ident $type:ty),*) => { $(
        impl From<Vec<$type>> for ArrayData {
            fn from(values: Vec<$type>) -> ArrayData {
                ArrayData::$variant(values)
            }
        }
    )* };
}

from_vec!(F16 f16, F32 f32, F64 f64, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, Bool bool);

/// An n-dimensional array: what goes into a [`Graph`](crate::Graph) and comes out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: ArrayData,
}

impl Array {
    /// `data` as an array of `shape`, last axis fastest.
    ///
    /// # Errors
    /// [`Error::Usage`] when the shape asks for another number of elements.
    pub fn new(shape: Vec<usize>, data: impl Into<ArrayData>) -> Result<Array, Error> {
        let data = data.into();
        let wanted = shape
            .iter()
            .try_fold(1usize, |all, dim| all.checked_mul(*dim));
        let length = with_values!(&data, values => values.len());
        if wanted != Some(length) {
            return Err(Error::Usage(format!(
                "an array of shape {shape:?} can't have {length} elements"
            )));
        }
        Ok(Array { shape, data })
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, last axis fastest.
    pub fn data(&self) -> &ArrayData {
        &self.data
    }

    /// The shape and the elements, taken apart.
    pub fn into_parts(self) -> (Vec<usize>, ArrayData) {
        (self.shape, self.data)
    }

    /// The elements if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            ArrayData::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The elements if they are i64.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            ArrayData::I64(values) => Some(values),
            _ => None,
        }
    }

    /// The type of the elements, in ONNX's terms.
    pub fn element(&self) -> ElementType {
        match &self.data {
            ArrayData::F16(_) => ElementType::Float16,
            ArrayData::F32(_) => ElementType::Float,
            ArrayData::F64(_) => ElementType::Double,
            ArrayData::I8(_) => ElementType::Int8,
            ArrayData::I16(_) => ElementType::Int16,
            ArrayData::I32(_) => ElementType::Int32,
            ArrayData::I64(_) => ElementType::Int64,
            ArrayData::U8(_) => ElementType::Uint8,
            ArrayData::U16(_) => ElementType::Uint16,
            ArrayData::U32(_) => ElementType::Uint32,
            ArrayData::U64(_) => ElementType::Uint64,
            ArrayData::Bool(_) => ElementType::Bool,
        }
    }

    /// A copy of a tensor of a model file.
    ///
    /// # Errors
    /// [`Error::Usage`] for element types that an array can't have.
    pub fn from_data(tensor: &TensorData) -> Result<Array, Error> {
        fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes
                .as_chunks::<N>()
                .0
                .iter()
                .map(|chunk| read(*chunk))
                .collect()
        }
        let bytes = tensor.bytes.as_slice();
        let data: ArrayData = match tensor.element {
            ElementType::Float16 => numbers(bytes, f16::from_le_bytes).into(),
            ElementType::Float => numbers(bytes, f32::from_le_bytes).into(),
            ElementType::Double => numbers(bytes, f64::from_le_bytes).into(),
            ElementType::Int8 => numbers(bytes, i8::from_le_bytes).into(),
            ElementType::Int16 => numbers(bytes, i16::from_le_bytes).into(),
            ElementType::Int32 => numbers(bytes, i32::from_le_bytes).into(),
            ElementType::Int64 => numbers(bytes, i64::from_le_bytes).into(),
            ElementType::Uint8 => numbers(bytes, u8::from_le_bytes).into(),
            ElementType::Uint16 => numbers(bytes, u16::from_le_bytes).into(),
            ElementType::Uint32 => numbers(bytes, u32::from_le_bytes).into(),
            ElementType::Uint64 => numbers(bytes, u64::from_le_bytes).into(),
            ElementType::Bool => numbers(bytes, |[byte]: [u8; 1]| byte != 0).into(),
            other => {
                let name = other.as_str_name();
                return Err(Error::Usage(format!(
                    "an array can't hold elements of type {name}"
                )));
            }
        };
        Array::new(tensor.dims.clone(), data)
    }

    /// A copy for tract.
    pub(crate) fn to_tensor(&self) -> TractResult<Tensor> {
        with_values!(&self.data, values => Tensor::from_shape(&self.shape, values))
    }

    /// A copy of what tract made.
    pub(crate) fn from_tensor(tensor: &Tensor) -> TractResult<Array> {
        let shape = tensor.shape().to_vec();
        macro_rules! copy {
            ($($datum:ident => $variant:ident),*) => {
                match tensor.datum_type() {
                    $(DatumType::$datum => {
                        let plain = tensor.try_as_plain_ram()?;
                        ArrayData::$variant(plain.as_slice()?.to_vec())
                    })*
                    DatumType::TDim => {
                        let numbers = tensor.cast_to::<i64>()?;
                        ArrayData::I64(numbers.try_as_plain_ram()?.as_slice()?.to_vec())
                    }
                    other if other.is_quantized() => {
                        let plain = tensor.cast_to_dt(other.unquantized())?;
                        return Array::from_tensor(&plain);
                    }
                    other => bail!("an output of type {other:?} can't leave the graph"),
                }
            };
        }
        let data = copy!(F16 => F16, F32 => F32, F64 => F64, I8 => I8, I16 => I16, I32 => I32, I64 => I64,
            U8 => U8, U16 => U16, U32 => U32, U64 => U64, Bool => Bool);
        Ok(Array { shape, data })
    }
}
