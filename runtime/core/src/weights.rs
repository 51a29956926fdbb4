//! Weights as a model file holds them: checked views that own nothing.
//!
//! A block-quantised matrix `[rows, columns]` (output, input features) is cut along the columns into
//! blocks. Each block has one scale and maybe one zero point, and `weight = scale * (code - zero_point)`.
//! This is the layout of ONNX Runtime's `MatMulNBits`: two 4-bit codes a byte, the low half first, the
//! last block of a row padded.

use crate::{Error, Operand, f16};

/// Borrowed floats of either width.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit.
    F16(&'a [f16]),
}

impl Floats<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Floats::F32(values) => values.len(),
            Floats::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `index`, widened; `None` past the end.
    pub fn get(&self, index: usize) -> Option<f32> {
        match self {
            Floats::F32(values) => values.get(index).copied(),
            Floats::F16(values) => values.get(index).map(|v| v.to_f32()),
        }
    }
}

/// The code that stands for zero, for each block.
#[derive(Clone, Copy, Debug)]
pub enum ZeroPoints<'a> {
    /// The middle of the range: 8 for 4 bits, 128 for 8 bits.
    Middle,
    /// Integers packed like the codes: `[rows, ceil(blocks * bits / 8)]`, each row padded to a byte.
    Packed(&'a [u8]),
    /// Floats `[rows, blocks]`.
    Float(Floats<'a>),
}

/// How a kernel must read its weights. Two weights of one format use the same kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WeightFormat {
    /// Block-quantised.
    Block {
        /// Bits of a code: 4 or 8.
        bits: u8,
        /// Columns that share a scale: 16, 32, 64 or 128. Blocks of 256 in a file are read as two of 128 with
        /// the same scale.
        block: u8,
        /// Whether blocks have zero points of their own.
        offset: bool,
    },
    /// 16-bit floats, multiplied as f32.
    F16,
    /// 32-bit floats.
    F32,
}

impl WeightFormat {
    /// Every format there is.
    pub const ALL: [WeightFormat; 18] = {
        let mut all = [WeightFormat::F16; 18];
        let mut i = 0;
        while i < 16 {
            all[i] = WeightFormat::Block {
                bits: if i < 8 { 4 } else { 8 },
                block: 16 << (i / 2 % 4),
                offset: i % 2 == 1,
            };
            i += 1;
        }
        all[17] = WeightFormat::F32;
        all
    };
}

/// Block-quantised weights `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct BlockWeights<'a> {
    bits: u8,
    block_size: usize,
    rows: usize,
    columns: usize,
    blocks: usize,
    codes: &'a [u8],
    scales: Floats<'a>,
    zero_points: ZeroPoints<'a>,
}

impl<'a> BlockWeights<'a> {
    /// Checks the shapes against the lengths of the slices.
    ///
    /// `codes` is `[rows, blocks, block_size * bits / 8]`, `scales` is `[rows, blocks]` with
    /// `blocks = ceil(columns / block_size)`.
    ///
    /// # Errors
    /// [`Error::Bits`] unless 4 or 8; [`Error::BlockSize`] unless a power of two from 16 to 256;
    /// [`Error::Shape`] for no rows or columns; [`Error::Length`] when a slice disagrees with the
    /// shape; [`Error::Overflow`].
    pub fn new(
        bits: u8,
        block_size: usize,
        rows: usize,
        columns: usize,
        codes: &'a [u8],
        scales: Floats<'a>,
        zero_points: ZeroPoints<'a>,
    ) -> Result<Self, Error> {
        if bits != 4 && bits != 8 {
            return Err(Error::Bits(bits));
        }
        if !block_size.is_power_of_two() || !(16..=256).contains(&block_size) {
            return Err(Error::BlockSize(
                u32::try_from(block_size).unwrap_or(u32::MAX),
            ));
        }
        if rows == 0 || columns == 0 {
            return Err(Error::Shape);
        }
        let blocks = columns.div_ceil(block_size);
        let total = rows.checked_mul(blocks).ok_or(Error::Overflow)?;
        let block_bytes = block_size * usize::from(bits) / 8;
        if total.checked_mul(block_bytes).ok_or(Error::Overflow)? != codes.len() {
            return Err(Error::Length(Operand::Codes));
        }
        if scales.len() != total {
            return Err(Error::Length(Operand::Scales));
        }
        let zero_points_fit = match zero_points {
            ZeroPoints::Middle => true,
            // `blocks * bits` cannot overflow: a code of at least 8 bytes exists for each block.
            ZeroPoints::Packed(values) => {
                values.len() == rows * (blocks * usize::from(bits)).div_ceil(8)
            }
            ZeroPoints::Float(values) => values.len() == total,
        };
        if !zero_points_fit {
            return Err(Error::Length(Operand::ZeroPoints));
        }
        Ok(BlockWeights {
            bits,
            block_size,
            rows,
            columns,
            blocks,
            codes,
            scales,
            zero_points,
        })
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bits of a code: 4 or 8.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Columns that share a scale.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// The format a kernel is selected for.
    pub fn format(&self) -> WeightFormat {
        WeightFormat::Block {
            bits: self.bits,
            block: self.block_size.min(128) as u8,
            offset: !matches!(self.zero_points, ZeroPoints::Middle),
        }
    }

    /// The code bytes of `block` in `row`; empty outside the matrix.
    pub(crate) fn block_codes(&self, row: usize, block: usize) -> &'a [u8] {
        let bytes = self.block_size * usize::from(self.bits) / 8;
        let start = (row * self.blocks + block) * bytes;
        self.codes.get(start..start + bytes).unwrap_or(&[])
    }

    /// The scale of `block` in `row`; zero outside the matrix.
    pub(crate) fn scale(&self, row: usize, block: usize) -> f32 {
        self.scales.get(row * self.blocks + block).unwrap_or(0.0)
    }

    /// The zero point of `block` in `row`, less the middle of the range.
    pub(crate) fn centred_zero_point(&self, row: usize, block: usize) -> f32 {
        let middle = if self.bits == 4 { 8.0 } else { 128.0 };
        let index = row * self.blocks + block;
        match self.zero_points {
            ZeroPoints::Middle => 0.0,
            ZeroPoints::Packed(values) if self.bits == 4 => {
                let byte = values
                    .get(row * self.blocks.div_ceil(2) + block / 2)
                    .copied()
                    .unwrap_or(0x88);
                f32::from(if block.is_multiple_of(2) {
                    byte & 15
                } else {
                    byte >> 4
                }) - middle
            }
            ZeroPoints::Packed(values) => {
                f32::from(values.get(index).copied().unwrap_or(128)) - middle
            }
            ZeroPoints::Float(values) => values.get(index).unwrap_or(middle) - middle,
        }
    }
}

/// Unquantised weights `[rows, columns]`, row by row.
#[derive(Clone, Copy, Debug)]
pub struct DenseWeights<'a> {
    rows: usize,
    columns: usize,
    values: Floats<'a>,
}

impl<'a> DenseWeights<'a> {
    /// Checks the shape against the number of values.
    ///
    /// # Errors
    /// [`Error::Shape`] for no rows or columns, [`Error::Length`] when `values` disagrees.
    pub fn new(rows: usize, columns: usize, values: Floats<'a>) -> Result<Self, Error> {
        if rows == 0 || columns == 0 {
            return Err(Error::Shape);
        }
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(Error::Length(Operand::Values));
        }
        Ok(DenseWeights {
            rows,
            columns,
            values,
        })
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values, row by row.
    pub fn values(&self) -> Floats<'a> {
        self.values
    }
}

/// Any weights a [`LinearKernel`](crate::LinearKernel) can pack.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Block-quantised.
    Block(BlockWeights<'a>),
    /// Unquantised.
    Dense(DenseWeights<'a>),
}

impl Weights<'_> {
    /// Output features.
    pub fn rows(&self) -> usize {
        match self {
            Weights::Block(weights) => weights.rows(),
            Weights::Dense(weights) => weights.rows(),
        }
    }

    /// Input features.
    pub fn columns(&self) -> usize {
        match self {
            Weights::Block(weights) => weights.columns(),
            Weights::Dense(weights) => weights.columns(),
        }
    }

    /// The format a kernel is selected for.
    pub fn format(&self) -> WeightFormat {
        match self {
            Weights::Block(weights) => weights.format(),
            Weights::Dense(weights) => match weights.values {
                Floats::F32(_) => WeightFormat::F32,
                Floats::F16(_) => WeightFormat::F16,
            },
        }
    }
}

impl<'a> From<BlockWeights<'a>> for Weights<'a> {
    fn from(weights: BlockWeights<'a>) -> Self {
        Weights::Block(weights)
    }
}

impl<'a> From<DenseWeights<'a>> for Weights<'a> {
    fn from(weights: DenseWeights<'a>) -> Self {
        Weights::Dense(weights)
    }
}
