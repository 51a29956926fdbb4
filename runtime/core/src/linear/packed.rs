//! Packing weights for a kernel: plain code, so that any machine can pack for any instruction set.

use super::layout::{Interleave, ROW_TILE, TileShape};
use super::pack;
use crate::{Error, Feature, IsaKind, Operand, WeightFormat, Weights};
use core::ops::Range;

/// How packed weights of one format lie in memory. Kernels with equal layouts read the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLayout {
    format: WeightFormat,
    interleave: Interleave,
}

impl PackedLayout {
    pub(super) fn new(format: WeightFormat, interleave: Interleave) -> PackedLayout {
        PackedLayout { format, interleave }
    }

    /// What the kernel for `format` on `kind` reads, whether or not this machine has it.
    ///
    /// # Errors
    /// [`Error::Bits`] or [`Error::BlockSize`] for a format that [`WeightFormat::ALL`] does not list.
    pub fn of(format: WeightFormat, kind: IsaKind) -> Result<PackedLayout, Error> {
        let interleave = match format {
            WeightFormat::Block { bits, .. } if bits != 4 && bits != 8 => {
                return Err(Error::Bits(bits));
            }
            WeightFormat::Block { block, .. } if !matches!(block, 16 | 32 | 64 | 128) => {
                return Err(Error::BlockSize(u32::from(block)));
            }
            // Microcontrollers have no kernel of their own for these.
            WeightFormat::Block { block: 16, .. } if kind.is_microcontroller() => {
                Interleave::of(IsaKind::Scalar)
            }
            WeightFormat::Block { .. } => Interleave::of(kind),
            WeightFormat::F16 | WeightFormat::F32 => Interleave::DENSE,
        };
        Ok(PackedLayout { format, interleave })
    }

    /// The format of the weights.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Row ranges start at multiples of this, and end at one or at the last row.
    pub const fn row_tile(&self) -> usize {
        ROW_TILE
    }

    /// Bytes of packed weights `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn packed_bytes(&self, rows: usize, columns: usize) -> Result<usize, Error> {
        TileShape::new(self.format, columns)?.all_bytes(rows)
    }

    /// Where the rows of `range` lie in packed weights `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::RowRange`], [`Error::Overflow`].
    pub fn packed_range(
        &self,
        rows: usize,
        columns: usize,
        range: Range<usize>,
    ) -> Result<Range<usize>, Error> {
        self.packed_bytes(rows, columns)?;
        let tile = TileShape::new(self.format, columns)?.bytes;
        let range = super::tile_range(rows, range)?;
        Ok(range.start * tile..range.end * tile)
    }

    /// Packs the rows of `range` into `dst`, the part of the buffer that [`PackedLayout::packed_range`]
    /// names. Threads may pack different ranges of one buffer.
    ///
    /// # Errors
    /// [`Error::Format`] for weights of another format, [`Error::RowRange`], [`Error::Length`] when `dst` is
    /// not that part.
    pub fn pack(
        &self,
        weights: &Weights<'_>,
        range: Range<usize>,
        dst: &mut [u8],
    ) -> Result<(), Error> {
        if weights.format() != self.format {
            return Err(Error::Format);
        }
        let shape = TileShape::new(self.format, weights.columns())?;
        let bytes = self.packed_range(weights.rows(), weights.columns(), range.clone())?;
        if dst.len() != bytes.len() {
            return Err(Error::Length(Operand::Packed));
        }
        for (index, tile) in dst.chunks_exact_mut(shape.bytes).enumerate() {
            let first_row = range.start + index * ROW_TILE;
            match (weights, self.format) {
                (Weights::Block(weights), WeightFormat::Block { block, .. }) => {
                    pack::pack_blocks(
                        weights,
                        first_row,
                        self.interleave,
                        shape,
                        usize::from(block),
                        tile,
                    );
                }
                (Weights::Dense(weights), _) => pack::pack_dense(weights, first_row, tile),
                (Weights::Block(_), _) => return Err(Error::Format),
            }
        }
        Ok(())
    }

    /// Widens row `row` of packed weights `[rows, columns]` into `out` `[columns]`: an embedding look-up from the
    /// same bytes that the output head multiplies.
    ///
    /// # Errors
    /// [`Error::RowRange`] for a row outside, [`Error::Length`], [`Error::Feature`].
    pub fn unpack_row(
        &self,
        packed: &[u8],
        rows: usize,
        columns: usize,
        row: usize,
        out: &mut [f32],
    ) -> Result<(), Error> {
        if packed.len() != self.packed_bytes(rows, columns)? {
            return Err(Error::Length(Operand::Packed));
        }
        if out.len() != columns {
            return Err(Error::Length(Operand::Output));
        }
        if row >= rows {
            return Err(Error::RowRange);
        }
        Feature::of_weights(self.format).require()?;
        let shape = TileShape::new(self.format, columns)?;
        let tile = packed
            .get(row / ROW_TILE * shape.bytes..)
            .ok_or(Error::Length(Operand::Packed))?;
        match self.format {
            WeightFormat::Block { bits, block, .. } => {
                let interleave = self.interleave;
                pack::unpack_blocks(
                    tile,
                    row % ROW_TILE,
                    interleave,
                    shape,
                    bits,
                    usize::from(block),
                    out,
                );
            }
            // Refused above.
            _ if !Feature::Dense.is_built() => {}
            WeightFormat::F16 | WeightFormat::F32 => {
                pack::unpack_dense(tile, row % ROW_TILE, shape, out)
            }
        }
        Ok(())
    }
}
