//! Constants as patterns want them: weight matrices behind casts and transposes, and small vectors as f32.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::draft::Draft;
use super::node::{attribute, input, int, ints, output};
use super::spec::{FloatWidth, WeightData, WeightSource};
use crate::Error;
use crate::import::{ElementType, TensorData};

/// How many casts and transposes may stand between an initialiser and its use.
const MAX_STEPS: usize = 4;

/// Turns `Constant` nodes that hold a tensor into initialisers, so that patterns need to know only these.
pub(crate) fn lift(draft: &mut Draft) {
    for id in draft.ids_of("Constant") {
        let found = draft.node(id).and_then(|node| {
            let tensor = attribute(node, "value")?.t.clone()?;
            Some((tensor, output(node, 0)?.to_owned()))
        });
        let Some((mut tensor, name)) = found else {
            continue;
        };
        draft.remove(id);
        tensor.name = name;
        draft.add_initialiser(tensor);
    }
}

/// A constant and what happens to it before it is used.
struct Constant {
    data: TensorData,
    transposed: bool,
}

/// Follows a value back to an initialiser through casts to f32, identities and a transpose.
fn constant(draft: &Draft, value: &str) -> Result<Option<Constant>, Error> {
    let mut value = value.to_owned();
    let mut transposed = false;
    for _ in 0..MAX_STEPS {
        if let Some(tensor) = draft.initialiser(&value) {
            return Ok(Some(Constant {
                data: draft.tensor(tensor)?,
                transposed,
            }));
        }
        let Some((_, node)) = draft.producer(&value) else {
            return Ok(None);
        };
        match node.op_type.as_str() {
            "Identity" => {}
            "Cast" if int(node, "to") == Some(ElementType::Float as i64) => {}
            "Transpose" if swaps_two_axes(node) => transposed = !transposed,
            _ => return Ok(None),
        }
        let Some(source) = input(node, 0) else {
            return Ok(None);
        };
        value = source.to_owned();
    }
    Ok(None)
}

fn swaps_two_axes(node: &NodeProto) -> bool {
    // Without the attribute, all axes are reversed; the rank is checked by who asks for a matrix.
    ints(node, "perm").is_none_or(|perm| perm == [1, 0])
}

/// The width of a floating-point type that kernels read.
pub(crate) fn float_width(element: ElementType) -> Option<FloatWidth> {
    match element {
        ElementType::Float => Some(FloatWidth::F32),
        ElementType::Float16 => Some(FloatWidth::F16),
        _ => None,
    }
}

/// A constant matrix `[inputs, outputs]`, the right side of a `MatMul`, as weights.
pub(crate) fn right_matrix(draft: &Draft, value: &str) -> Result<Option<WeightSource>, Error> {
    let weights = matrix(draft, value)?;
    Ok(
        weights.map(|(rows, cols, bytes, width, transposed)| WeightSource {
            rows: cols,
            cols: rows,
            data: WeightData::Dense {
                bytes,
                width,
                transposed: !transposed,
            },
        }),
    )
}

/// A constant matrix `[rows, columns]`, a table to look rows up in, stored that way round.
pub(crate) fn table(draft: &Draft, value: &str) -> Result<Option<WeightSource>, Error> {
    let found = matrix(draft, value)?;
    Ok(found
        .filter(|found| !found.4)
        .map(|(rows, cols, bytes, width, transposed)| WeightSource {
            rows,
            cols,
            data: WeightData::Dense {
                bytes,
                width,
                transposed,
            },
        }))
}

type Matrix = (usize, usize, crate::import::TensorBytes, FloatWidth, bool);

/// A constant matrix: its rows and columns as its reader sees them, and whether they are stored the other way.
fn matrix(draft: &Draft, value: &str) -> Result<Option<Matrix>, Error> {
    let Some(constant) = constant(draft, value)? else {
        return Ok(None);
    };
    let (&[first, second], Some(width)) = (
        constant.data.dims.as_slice(),
        float_width(constant.data.element),
    ) else {
        return Ok(None);
    };
    if first == 0 || second == 0 {
        return Ok(None);
    }
    let (rows, cols) = if constant.transposed {
        (second, first)
    } else {
        (first, second)
    };
    Ok(Some((
        rows,
        cols,
        constant.data.bytes,
        width,
        constant.transposed,
    )))
}

/// A constant vector, `[length]`, as f32.
pub(crate) fn vector(draft: &Draft, value: &str) -> Result<Option<Arc<[f32]>>, Error> {
    if dims(draft, value)?.is_none_or(|dims| dims.len() != 1) {
        return Ok(None);
    }
    Ok(floats(draft, value)?.map(|(_, numbers)| numbers.into()))
}

/// The shape of a constant that [`floats`] reads. Constants may be large: what only looks at shapes asks here.
pub(crate) fn dims(draft: &Draft, value: &str) -> Result<Option<Vec<usize>>, Error> {
    let constant = constant(draft, value)?.filter(|constant| !constant.transposed);
    Ok(constant
        .filter(|constant| float_width(constant.data.element).is_some())
        .map(|constant| constant.data.dims))
}

/// A shape and its numbers.
pub(crate) type Floats = (Vec<usize>, Vec<f32>);

/// A constant of any shape, as f32.
pub(crate) fn floats(draft: &Draft, value: &str) -> Result<Option<Floats>, Error> {
    let Some(constant) = constant(draft, value)?.filter(|constant| !constant.transposed) else {
        return Ok(None);
    };
    let Some(width) = float_width(constant.data.element) else {
        return Ok(None);
    };
    Ok(Some((
        constant.data.dims,
        to_f32(&constant.data.bytes, width),
    )))
}

/// Little-endian numbers as f32.
fn to_f32(bytes: &[u8], width: FloatWidth) -> Vec<f32> {
    match width {
        FloatWidth::F32 => {
            let (numbers, _) = bytes.as_chunks::<4>();
            numbers
                .iter()
                .map(|&number| f32::from_le_bytes(number))
                .collect()
        }
        FloatWidth::F16 => {
            let (numbers, _) = bytes.as_chunks::<2>();
            numbers
                .iter()
                .map(|&number| half::f16::from_le_bytes(number).to_f32())
                .collect()
        }
    }
}

/// A constant that is one number, by itself or in a vector of one.
pub(crate) fn scalar(draft: &Draft, value: &str) -> Result<Option<f32>, Error> {
    match dims(draft, value)?.as_deref() {
        Some([] | [1]) => {
            Ok(floats(draft, value)?.and_then(|(_, numbers)| numbers.first().copied()))
        }
        _ => Ok(None),
    }
}

/// What a value is a multiple of, and the factor, where a node multiplies or divides it by a constant number.
pub(crate) fn scaled(draft: &Draft, value: &str) -> Result<Option<(String, f32)>, Error> {
    let Some((_, node)) = draft.producer(value) else {
        return Ok(None);
    };
    let (Some(a), Some(b)) = (input(node, 0), input(node, 1)) else {
        return Ok(None);
    };
    let of =
        |source: &str, factor: Option<f32>| Ok(factor.map(|factor| (source.to_owned(), factor)));
    match node.op_type.as_str() {
        "Mul" => match scalar(draft, b)? {
            None => of(b, scalar(draft, a)?),
            factor => of(a, factor),
        },
        "Div" => of(a, scalar(draft, b)?.filter(|&b| b != 0.0).map(|b| 1.0 / b)),
        _ => Ok(None),
    }
}

/// Whether a constant is meant to be `wanted`: f16 knows three and a half digits.
pub(crate) fn is_near(constant: f32, wanted: f32) -> bool {
    (constant - wanted).abs() <= wanted.abs() * 5e-4
}

/// A constant list of whole numbers, such as the shape of a `Reshape`.
pub(crate) fn whole_numbers(draft: &Draft, value: &str) -> Result<Option<Vec<i64>>, Error> {
    let Some(tensor) = draft.initialiser(value) else {
        return Ok(None);
    };
    let data = draft.tensor(tensor)?;
    if data.element != ElementType::Int64 {
        return Ok(None);
    }
    let (numbers, _) = data.bytes.as_chunks::<8>();
    Ok(Some(
        numbers
            .iter()
            .map(|&number| i64::from_le_bytes(number))
            .collect(),
    ))
}
