//! Weights and tables as the image holds them.

use std::ops::Range;

use furlong_core::plan::{BlockParts, Points, TensorFormat};

use super::program::PlannedTensor;
use crate::pool::Pool;
use crate::rewrite::{FloatWidth, WeightData, WeightSource, ZeroPoints};
use crate::weights::{Matrix, PackError, pack_matrix};

type CoreError = furlong_core::Error;

/// A vector.
pub(super) fn vector(name: &str, values: &[f32]) -> PlannedTensor {
    rows(name, 1, values.len(), values)
}

/// Numbers `[rows, columns]`.
pub(super) fn rows(name: &str, rows: usize, columns: usize, values: &[f32]) -> PlannedTensor {
    PlannedTensor {
        name: name.to_owned(),
        format: TensorFormat::Floats,
        rows,
        columns,
        bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// A packed matrix, and its bias if it has one.
///
/// # Errors
/// What the kernels refuse.
pub(super) fn matrix(
    matrix: &Matrix<'_>,
    pool: &Pool,
) -> Result<(PlannedTensor, Option<PlannedTensor>), PackError> {
    let name = matrix.name();
    let mut bytes = Vec::with_capacity(matrix.place.len());
    let packed = pack_matrix(matrix, pool, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), CoreError>(())
    });
    packed.map_err(|error| PackError::new(&name, error))?;
    let biases = matrix.parts.iter().filter_map(|part| part.bias.as_deref());
    let bias: Vec<f32> = biases.flatten().copied().collect();
    let bias = (!bias.is_empty()).then(|| vector(&format!("{name}, bias"), &bias));
    let weights = PlannedTensor {
        name,
        format: TensorFormat::Packed(matrix.layout.format()),
        rows: matrix.rows,
        columns: matrix.cols,
        bytes,
    };
    Ok((weights, bias))
}

/// A table that rows are looked up in, as the model's file has it; of a table of plain numbers no more than `rows`.
///
/// # Errors
/// A format that tables can't have.
pub(super) fn table(
    name: &str,
    source: &WeightSource,
    rows: usize,
) -> Result<PlannedTensor, PackError> {
    let refuse = |error| PackError::new(name, error);
    let (format, rows, bytes) = match &source.data {
        WeightData::Dense {
            bytes,
            width,
            transposed: false,
        } => {
            let (format, size) = match width {
                FloatWidth::F16 => (TensorFormat::Halves, 2),
                FloatWidth::F32 => (TensorFormat::Floats, 4),
            };
            let rows = rows.min(source.rows);
            let first = bytes.get(..rows * source.cols * size);
            let first = first.ok_or_else(|| refuse(CoreError::Overflow))?;
            (format, rows, first.to_vec())
        }
        WeightData::Dense { .. } => return Err(refuse(CoreError::Format)),
        WeightData::Blocks {
            bits,
            block_size,
            codes,
            scales,
            scale_width,
            zero_points,
        } => {
            let points = match zero_points {
                ZeroPoints::Middle => Points::Middle,
                ZeroPoints::Packed(_) => Points::Packed,
                ZeroPoints::Float(_) => Points::Float,
            };
            let format = TensorFormat::Blocks {
                bits: u8::try_from(*bits).unwrap_or(u8::MAX),
                block: u16::try_from(*block_size).unwrap_or(u16::MAX),
                half: *scale_width == FloatWidth::F16,
                points,
            };
            let parts = BlockParts::of(format, source.rows, source.cols).map_err(refuse)?;
            let mut bytes = vec![0; parts.points.end];
            let mut put = |range: Range<usize>, from: &[u8]| match bytes.get_mut(range) {
                Some(to) if to.len() == from.len() => {
                    to.copy_from_slice(from);
                    Ok(())
                }
                _ => Err(refuse(CoreError::Overflow)),
            };
            put(parts.codes, codes)?;
            put(parts.scales, scales)?;
            if let Some(points) = zero_points.bytes() {
                put(parts.points, points)?;
            }
            (format, source.rows, bytes)
        }
    };
    Ok(PlannedTensor {
        name: name.to_owned(),
        format,
        rows,
        columns: source.cols,
        bytes,
    })
}
