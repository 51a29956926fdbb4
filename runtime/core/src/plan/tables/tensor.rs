//! Constants of the image: weights, tables, parameters.

use crate::int8::Ranges;
use crate::plan::cast;
use crate::plan::record::{Reader, Writer};
use crate::{
    BlockWeights, DenseWeights, Error, Feature, Floats, Int8Kernel, Isa, IsaKind, PackedLayout,
    WeightFormat, Weights, ZeroPoints,
};
use core::ops::Range;

/// Bytes of a tensor's record.
pub const TENSOR_BYTES: usize = 24;
/// Tensors start at multiples of this in an image.
pub const TENSOR_ALIGN: usize = 64;

/// How the zero points of a table's blocks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Points {
    /// There are none: the middle of the codes stands for zero.
    Middle,
    /// Packed like the codes, each row padded to a byte.
    Packed,
    /// Floats of the scales' width.
    Float,
}

/// How a tensor's bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TensorFormat {
    /// f32, row by row.
    Floats,
    /// f16, row by row.
    Halves,
    /// Packed for the [`LinearKernel`](crate::LinearKernel) of the plan's instruction set.
    Packed(WeightFormat),
    /// Packed for the [`Int8Kernel`].
    Rows8(Ranges),
    /// A table to look rows up in, as model files have them: codes, then scales `[rows, blocks]`, then zero points, each
    /// from a multiple of four on.
    Blocks {
        /// Bits of a code: 4 or 8.
        bits: u8,
        /// Columns that share a scale.
        block: u16,
        /// Scales (and float zero points) are f16 rather than f32.
        half: bool,
        /// The zero points.
        points: Points,
    },
}

/// A constant in the image, `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tensor {
    /// How its bytes are read.
    pub format: TensorFormat,
    /// Where it starts in the image: a multiple of [`TENSOR_ALIGN`].
    pub offset: u32,
    /// Its size.
    pub bytes: u32,
    /// Outputs, or entries of a table.
    pub rows: u32,
    /// Inputs, or numbers an entry.
    pub columns: u32,
}

impl Tensor {
    /// The record in the image.
    pub fn encode(&self) -> [u8; TENSOR_BYTES] {
        let (kind, bits, block, extra) = match self.format {
            TensorFormat::Floats => (0, 0, 0, 0),
            TensorFormat::Halves => (1, 0, 0, 0),
            TensorFormat::Packed(WeightFormat::F32) => (2, 32, 0, 0),
            TensorFormat::Packed(WeightFormat::F16) => (2, 16, 0, 0),
            TensorFormat::Packed(WeightFormat::Block {
                bits,
                block,
                offset,
            }) => (2, bits, u16::from(block), u8::from(offset)),
            TensorFormat::Rows8(Ranges::Token) => (3, 8, 0, 0),
            TensorFormat::Rows8(Ranges::Tensor) => (3, 8, 0, 1),
            TensorFormat::Blocks {
                bits,
                block,
                half,
                points,
            } => {
                let points = match points {
                    Points::Middle => 0,
                    Points::Packed => 1,
                    Points::Float => 2,
                };
                (4, bits, block, points << 1 | u8::from(half))
            }
        };
        Writer::new()
            .u32(self.offset)
            .u32(self.bytes)
            .u32(self.rows)
            .u32(self.columns)
            .u8(kind)
            .u8(bits)
            .u16(block)
            .u8(extra)
            .finish()
    }

    pub(in crate::plan) fn decode(record: &[u8]) -> Option<Tensor> {
        let mut reader = Reader::new(record);
        let [offset, bytes, rows, columns] = [(); 4].map(|()| reader.u32());
        let (kind, bits, block, extra) = (reader.u8(), reader.u8(), reader.u16(), reader.u8());
        let format = match (kind, bits) {
            (0, _) => TensorFormat::Floats,
            (1, _) => TensorFormat::Halves,
            (2, 32) => TensorFormat::Packed(WeightFormat::F32),
            (2, 16) => TensorFormat::Packed(WeightFormat::F16),
            (2, _) => TensorFormat::Packed(WeightFormat::Block {
                bits,
                block: u8::try_from(block).ok()?,
                offset: extra & 1 == 1,
            }),
            (3, _) if extra & 1 == 0 => TensorFormat::Rows8(Ranges::Token),
            (3, _) => TensorFormat::Rows8(Ranges::Tensor),
            (4, _) => TensorFormat::Blocks {
                bits,
                block,
                half: extra & 1 == 1,
                points: match extra >> 1 {
                    0 => Points::Middle,
                    1 => Points::Packed,
                    2 => Points::Float,
                    _ => return None,
                },
            },
            _ => return None,
        };
        Some(Tensor {
            format,
            offset,
            bytes,
            rows,
            columns,
        })
    }

    /// Bytes of a tensor of this shape when its weights are packed for `isa`.
    ///
    /// # Errors
    /// [`Error::Overflow`], and formats that there is no kernel for.
    pub fn bytes_of(
        format: TensorFormat,
        isa: IsaKind,
        rows: usize,
        columns: usize,
    ) -> Result<usize, Error> {
        let numbers = rows.checked_mul(columns).ok_or(Error::Overflow);
        match format {
            TensorFormat::Floats => numbers?.checked_mul(4).ok_or(Error::Overflow),
            TensorFormat::Halves => numbers?.checked_mul(2).ok_or(Error::Overflow),
            TensorFormat::Packed(format) => {
                PackedLayout::of(format, isa)?.packed_bytes(rows, columns)
            }
            // Packed alike for all instruction sets.
            TensorFormat::Rows8(_) if !Feature::Encoder.is_built() => {
                Err(Error::Feature(Feature::Encoder))
            }
            TensorFormat::Rows8(_) => Int8Kernel::select(Isa::SCALAR).packed_bytes(rows, columns),
            TensorFormat::Blocks { .. } if !Feature::Table.is_built() => {
                Err(Error::Feature(Feature::Table))
            }
            TensorFormat::Blocks { .. } => Ok(BlockParts::of(format, rows, columns)?.points.end),
        }
    }

    pub(in crate::plan) fn fits(&self, isa: IsaKind, image_bytes: u32) -> bool {
        let (rows, columns) = (self.rows as usize, self.columns as usize);
        let bytes = Tensor::bytes_of(self.format, isa, rows, columns);
        let end = self.offset.checked_add(self.bytes);
        rows > 0
            && columns > 0
            && bytes == Ok(self.bytes as usize)
            && (self.offset as usize).is_multiple_of(TENSOR_ALIGN)
            && end.is_some_and(|end| end <= image_bytes)
    }

    /// A table's rows as the look-up wants them. `bytes` are the tensor's own.
    ///
    /// # Errors
    /// [`Error::Format`] for a tensor that is no table of plain rows; what the views refuse.
    pub(in crate::plan) fn table<'a>(&self, bytes: &'a [u8]) -> Result<Weights<'a>, Error> {
        Feature::Table.require()?;
        let (rows, columns) = (self.rows as usize, self.columns as usize);
        match self.format {
            TensorFormat::Floats => {
                Ok(DenseWeights::new(rows, columns, Floats::F32(cast::floats(bytes)?))?.into())
            }
            TensorFormat::Halves => {
                Ok(DenseWeights::new(rows, columns, Floats::F16(cast::halves(bytes)?))?.into())
            }
            TensorFormat::Blocks {
                bits,
                block,
                half,
                points,
            } => {
                let parts = BlockParts::of(self.format, rows, columns)?;
                let part = |range: Range<usize>| bytes.get(range).ok_or(Error::Overflow);
                let floats = |bytes: &'a [u8]| {
                    Ok(match half {
                        true => Floats::F16(cast::halves(bytes)?),
                        false => Floats::F32(cast::floats(bytes)?),
                    })
                };
                let stored = part(parts.points)?;
                let points = match points {
                    Points::Middle => ZeroPoints::Middle,
                    Points::Packed => ZeroPoints::Packed(stored),
                    Points::Float => ZeroPoints::Float(floats(stored)?),
                };
                let scales = floats(part(parts.scales)?)?;
                let codes = part(parts.codes)?;
                let block = usize::from(block);
                Ok(BlockWeights::new(bits, block, rows, columns, codes, scales, points)?.into())
            }
            _ => Err(Error::Format),
        }
    }
}

/// Where the parts of a table of blocks lie in its bytes.
pub struct BlockParts {
    /// `[rows, blocks, block · bits / 8]`.
    pub codes: Range<usize>,
    /// `[rows, blocks]`.
    pub scales: Range<usize>,
    /// Zero points; empty if there are none.
    pub points: Range<usize>,
}

impl BlockParts {
    /// The parts of a table of this format and shape.
    ///
    /// # Errors
    /// [`Error::Format`] for another format, [`Error::Bits`], [`Error::BlockSize`], [`Error::Overflow`].
    pub fn of(format: TensorFormat, rows: usize, columns: usize) -> Result<BlockParts, Error> {
        let TensorFormat::Blocks {
            bits,
            block,
            half,
            points,
        } = format
        else {
            return Err(Error::Format);
        };
        if bits != 4 && bits != 8 {
            return Err(Error::Bits(bits));
        }
        if block < 16 {
            return Err(Error::BlockSize(u32::from(block)));
        }
        let blocks = columns.div_ceil(usize::from(block));
        let width = if half { 2 } else { 4 };
        let parts = || {
            let total = rows.checked_mul(blocks)?;
            let codes = total.checked_mul(usize::from(block) * usize::from(bits) / 8)?;
            let floats = total.checked_mul(width)?;
            let packed = rows.checked_mul(blocks.checked_mul(usize::from(bits))?.div_ceil(8))?;
            let scales_at = codes.checked_next_multiple_of(4)?;
            let scales_end = scales_at.checked_add(floats)?;
            let points_at = scales_end.checked_next_multiple_of(4)?;
            let points_end = match points {
                Points::Middle => points_at,
                Points::Packed => points_at.checked_add(packed)?,
                Points::Float => points_at.checked_add(floats)?,
            };
            Some(BlockParts {
                codes: 0..codes,
                scales: scales_at..scales_end,
                points: points_at..points_end,
            })
        };
        parts().ok_or(Error::Overflow)
    }
}
