//! Where weights live: outside tract, packed for the kernels or in the model's mapped file.

mod buffer;
pub(crate) mod cache;
mod contents;
mod int8;
mod low_rank;
mod model;
mod packed;
mod packing;
mod prepare;
mod table;

pub(crate) use buffer::Buffer;
pub(crate) use cache::Cache;
pub(crate) use contents::{Contents, Matrix};
pub(crate) use int8::PackedInt8;
pub(crate) use low_rank::{Change, ChangePart, LowRank, SidePath};
pub(crate) use model::{PackError, PackedModel};
pub(crate) use packed::{LinearScratch, PackedLinear, PackedMatrix};
pub(crate) use packing::pack_matrix;
pub(crate) use prepare::prepare;
pub(crate) use table::RowTable;

use std::borrow::Cow;

use furlong_core::{BlockWeights, DenseWeights, Floats, WeightFormat, Weights, ZeroPoints, f16};

use crate::rewrite::{self, FloatWidth, WeightData, WeightSource};

/// Numbers of a file at an address that their type allows.
#[derive(Debug)]
struct Numbers<'s> {
    bytes: Aligned<'s>,
    width: FloatWidth,
}

#[derive(Debug)]
enum Aligned<'s> {
    InPlace(&'s [u8]),
    Copied(Buffer),
}

impl<'s> Numbers<'s> {
    /// Takes bytes as they are where the address allows, else copies them.
    fn new(bytes: &'s [u8], width: FloatWidth) -> Numbers<'s> {
        let size = match width {
            FloatWidth::F16 => align_of::<f16>(),
            FloatWidth::F32 => align_of::<f32>(),
        };
        if bytes.as_ptr().align_offset(size) == 0 {
            return Numbers {
                bytes: Aligned::InPlace(bytes),
                width,
            };
        }
        let mut copy = Buffer::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        Numbers {
            bytes: Aligned::Copied(copy),
            width,
        }
    }

    fn floats(&self) -> Floats<'_> {
        let bytes: &[u8] = match &self.bytes {
            Aligned::InPlace(bytes) => bytes,
            Aligned::Copied(buffer) => buffer,
        };
        match self.width {
            FloatWidth::F16 => {
                let bits: &[u16] = bytemuck::try_cast_slice(bytes).unwrap_or_default();
                Floats::F16(half::slice::HalfBitsSliceExt::reinterpret_cast(bits))
            }
            FloatWidth::F32 => Floats::F32(bytemuck::try_cast_slice(bytes).unwrap_or_default()),
        }
    }
}

/// A matrix in a file, ready to be viewed as the kernels want it.
#[derive(Debug)]
struct SourceView<'s> {
    source: &'s WeightSource,
    floats: Numbers<'s>,
    zero_points: Option<Numbers<'s>>,
}

impl<'s> SourceView<'s> {
    /// A view of a matrix that is stored row by row.
    fn new(source: &'s WeightSource) -> SourceView<'s> {
        match &source.data {
            WeightData::Dense { bytes, width, .. } => SourceView {
                source,
                floats: Numbers::new(bytes, *width),
                zero_points: None,
            },
            WeightData::Blocks {
                scales,
                scale_width,
                zero_points,
                ..
            } => SourceView {
                source,
                floats: Numbers::new(scales, *scale_width),
                zero_points: match zero_points {
                    rewrite::ZeroPoints::Float(points) => Some(Numbers::new(points, *scale_width)),
                    _ => None,
                },
            },
        }
    }

    /// What the kernels read.
    fn weights(&self) -> Result<Weights<'_>, furlong_core::Error> {
        let (rows, cols) = (self.source.rows, self.source.cols);
        match &self.source.data {
            WeightData::Dense { .. } => {
                Ok(DenseWeights::new(rows, cols, self.floats.floats())?.into())
            }
            WeightData::Blocks {
                bits,
                block_size,
                codes,
                zero_points,
                ..
            } => {
                let zero_points = match (zero_points, &self.zero_points) {
                    (rewrite::ZeroPoints::Packed(points), _) => ZeroPoints::Packed(points),
                    (_, Some(points)) => ZeroPoints::Float(points.floats()),
                    _ => ZeroPoints::Middle,
                };
                let bits = u8::try_from(*bits).unwrap_or(u8::MAX);
                let scales = self.floats.floats();
                Ok(
                    BlockWeights::new(bits, *block_size, rows, cols, codes, scales, zero_points)?
                        .into(),
                )
            }
        }
    }
}

/// The format that kernels read a matrix in.
fn weight_format(source: &WeightSource) -> Result<WeightFormat, furlong_core::Error> {
    match &source.data {
        WeightData::Dense { width, .. } => Ok(match width {
            FloatWidth::F16 => WeightFormat::F16,
            FloatWidth::F32 => WeightFormat::F32,
        }),
        WeightData::Blocks { .. } => Ok(SourceView::new(source).weights()?.format()),
    }
}

/// A short name of how a matrix is stored, such as `q4/32` or `f16`.
fn format_name(source: &WeightSource) -> Cow<'static, str> {
    match &source.data {
        WeightData::Dense {
            width: FloatWidth::F16,
            ..
        } => "f16".into(),
        WeightData::Dense {
            width: FloatWidth::F32,
            ..
        } => "f32".into(),
        WeightData::Blocks {
            bits, block_size, ..
        } => format!("q{bits}/{block_size}").into(),
    }
}

/// Bytes of a matrix in its file.
fn file_bytes(source: &WeightSource) -> usize {
    match &source.data {
        WeightData::Dense { bytes, .. } => bytes.len(),
        WeightData::Blocks {
            codes,
            scales,
            zero_points,
            ..
        } => {
            let points = zero_points.bytes().map_or(0, |points| points.len());
            codes.len() + scales.len() + points
        }
    }
}
