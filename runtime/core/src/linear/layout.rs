//! Where the parts of a packed weight matrix lie.
//!
//! Packed weights are a row of tiles of [`ROW_TILE`] output rows, each a multiple of 64 bytes:
//!
//! ```text
//! block-quantised tile            dense tile
//! ├ codes   [blocks][code bytes]  └ values [columns][16] f32 or f16
//! ├ params  [blocks][16 f16 scales, 16 f16 offsets if the format has them], or four rows' of both, four times
//! └ row multipliers [16] f32
//! ```
//!
//! The codes of one part of a block ([`part_of`]) of one row are put in the order even columns, odd columns, so that
//! the low and the high halves of 4-bit code bytes are each consecutive, and a file's bytes need no shuffling. How the
//! rows' codes interleave within a part, and which two 4-bit codes share a byte, is each instruction set's own
//! ([`Interleave`]): blocks of 64 and 128 columns lie like two and four of 32, with one scale. Scales and offsets are
//! normalised by a power of two for each row (the row multiplier), so that f16 holds any f32 range.

use crate::{Error, IsaKind, WeightFormat};

/// Output rows of a packed tile, on every instruction set.
pub(crate) const ROW_TILE: usize = 16;

/// Bytes of one block's parameters of one kind, for a tile.
pub(crate) const PARAM_BYTES: usize = ROW_TILE * 2;

/// Tiles start at multiples of this.
pub(crate) const TILE_ALIGN: usize = 64;

/// Columns whose codes lie together: blocks of more are cut into parts of 32.
pub(crate) const fn part_of(block: usize) -> usize {
    if block < 32 { block } else { 32 }
}

/// How far ahead of a single token weights are asked for on x86-64, in bytes. The hardware's own
/// prefetch stops at each page of 4 KiB.
#[cfg(target_arch = "x86_64")]
pub(crate) const PREFETCH: usize = 8192;

/// How 8-bit codes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    /// As -128..=127.
    Signed,
    /// As 0..=255.
    Unsigned,
    /// Of the bytes of a part of a row, the first, third and so on as 0..=255, the others as -128..=127.
    Alternating,
}

impl Signs {
    /// What turns the `byte`-th code of a part of a row, as a file has it (0..=255), into what is stored; and back.
    #[inline(always)]
    pub(crate) fn flip(self, byte: usize) -> u8 {
        match self {
            Signs::Unsigned => 0,
            Signs::Alternating if byte.is_multiple_of(2) => 0,
            Signs::Signed | Signs::Alternating => 0x80,
        }
    }
}

/// Which two 4-bit codes share a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nibbles {
    /// Those of two columns of a row, as in a file: both as 0..=15.
    Columns,
    /// Those of one column of two rows. Of eight rows the first four are low, as 0..=15, the others high, as -8..=7: so a byte is
    /// its low code and 16 times its high one, and the sum of its products tells the high row's sum when the low row's is known.
    /// Codes then lie as 8-bit codes of half as many rows would.
    Rows,
}

/// Where a 4-bit code lies: in which byte, how many bits up, and which of the byte's bits are stored the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NibblePlace {
    pub byte: usize,
    pub shift: u32,
    pub flip: u8,
}

/// How the code bytes of a tile's rows interleave within a part of a block: groups of `rows` rows, and within a
/// group `unit` bytes of each row in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interleave {
    pub rows: usize,
    pub unit: usize,
    pub signs: Signs,
    pub nibbles: Nibbles,
    /// Rows whose scales lie together, before their offsets: a group of them is one load.
    pub param_rows: usize,
}

impl Interleave {
    /// That of dense weights: sixteen rows side by side.
    pub(crate) const DENSE: Interleave = Interleave {
        rows: 1,
        unit: 1,
        signs: Signs::Signed,
        nibbles: Nibbles::Columns,
        param_rows: ROW_TILE,
    };

    /// That of an instruction set's block-quantised kernels. Here and not in the instruction sets' files, so that
    /// any machine can pack for any other.
    pub(crate) const fn of(kind: IsaKind) -> Interleave {
        let (rows, unit) = match kind {
            IsaKind::Scalar => (1, 8),
            IsaKind::ArmDsp => (4, 4),
            IsaKind::Helium => (8, 16),
            IsaKind::Neon => (4, 2),
            IsaKind::NeonDotprod | IsaKind::NeonI8mm => (4, 4),
            IsaKind::Avx2 => (8, 4),
            IsaKind::Avx512Vnni => (16, 4),
        };
        Interleave {
            rows,
            unit,
            signs: match kind {
                IsaKind::Avx512Vnni => Signs::Unsigned,
                IsaKind::ArmDsp => Signs::Alternating,
                _ => Signs::Signed,
            },
            nibbles: match kind {
                IsaKind::NeonDotprod | IsaKind::NeonI8mm => Nibbles::Rows,
                _ => Nibbles::Columns,
            },
            param_rows: match kind {
                IsaKind::ArmDsp | IsaKind::Helium | IsaKind::NeonDotprod | IsaKind::NeonI8mm => {
                    rows
                }
                _ => ROW_TILE,
            },
        }
    }

    /// Position of code byte `byte` of row `row` (in its tile) within a part of `row_bytes` a row.
    #[inline(always)]
    pub(crate) fn position(self, row: usize, byte: usize, row_bytes: usize) -> usize {
        // None of them is 0; said so that no code for that is made.
        let (rows, unit) = (self.rows.max(1), self.unit.max(1));
        let group = row / rows * rows * row_bytes;
        group + (byte / unit * rows + row % rows) * unit + byte % unit
    }

    /// Where the 4-bit code in place `place` (even columns first) of row `row` (in its tile) lies within a part of `row_bytes` a row.
    #[inline(always)]
    pub(crate) fn nibble(self, row: usize, place: usize, row_bytes: usize) -> NibblePlace {
        match self.nibbles {
            Nibbles::Columns => NibblePlace {
                byte: self.position(row, place % row_bytes.max(1), row_bytes),
                shift: if place < row_bytes { 0 } else { 4 },
                flip: 0,
            },
            Nibbles::Rows => {
                let rows = self.rows.max(1);
                let high = row / rows % 2 == 1;
                let shared = row / rows / 2 * rows + row % rows;
                NibblePlace {
                    byte: self.position(shared, place, 2 * row_bytes),
                    shift: if high { 4 } else { 0 },
                    flip: if high { 0x80 } else { 0 },
                }
            }
        }
    }

    /// Position of the scale of row `row` within a block's parameters of `params_bytes`.
    #[inline(always)]
    pub(crate) fn scale_position(self, row: usize, params_bytes: usize) -> usize {
        let rows = self.param_rows.max(1);
        let group = row / rows * rows * (params_bytes / ROW_TILE);
        group + row % rows * 2
    }

    /// Bytes from a row's scale to its offset.
    #[inline(always)]
    pub(crate) fn offset_distance(self) -> usize {
        self.param_rows * 2
    }
}

/// The sizes of one format's tiles for a number of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileShape {
    /// Blocks of a row; columns for dense formats.
    pub blocks: usize,
    /// Parts of a block.
    pub parts: usize,
    /// Code bytes of one row in one part; bytes of one value for dense formats.
    pub row_bytes: usize,
    /// Where the parameters start.
    pub params_at: usize,
    /// Bytes of one block's parameters; 0 for dense formats.
    pub params_bytes: usize,
    /// Where the row multipliers start.
    pub multipliers_at: usize,
    /// Size of a tile.
    pub bytes: usize,
}

impl TileShape {
    /// The tile of `format` for `columns` input features.
    pub(crate) fn new(format: WeightFormat, columns: usize) -> Result<TileShape, Error> {
        TileShape::inlined(format, columns)
    }

    /// [`TileShape::new`] where the time for a call counts.
    #[inline(always)]
    pub(crate) fn inlined(format: WeightFormat, columns: usize) -> Result<TileShape, Error> {
        let (blocks, parts, row_bytes, params_bytes, multiplier_bytes) = match format {
            WeightFormat::Block {
                bits,
                block,
                offset,
            } => {
                let kinds = if offset { 2 } else { 1 };
                let part = part_of(usize::from(block));
                (
                    columns.div_ceil(usize::from(block).max(1)),
                    (usize::from(block) / 32).max(1),
                    part * usize::from(bits) / 8,
                    kinds * PARAM_BYTES,
                    ROW_TILE * 4,
                )
            }
            WeightFormat::F16 => (columns, 1, 2, 0, 0),
            WeightFormat::F32 => (columns, 1, 4, 0, 0),
        };
        let sizes = || {
            let params_at = blocks.checked_mul(parts * row_bytes * ROW_TILE)?;
            let multipliers_at = params_at.checked_add(blocks.checked_mul(params_bytes)?)?;
            let bytes = multipliers_at.checked_add(multiplier_bytes + (TILE_ALIGN - 1))?;
            let bytes = bytes / TILE_ALIGN * TILE_ALIGN;
            Some(TileShape {
                blocks,
                parts,
                row_bytes,
                params_at,
                params_bytes,
                multipliers_at,
                bytes,
            })
        };
        sizes().ok_or(Error::Overflow)
    }

    /// Bytes of the tiles that hold `rows` rows.
    #[inline(always)]
    pub(crate) fn all_bytes(&self, rows: usize) -> Result<usize, Error> {
        self.bytes.checked_mul(tiles(rows)).ok_or(Error::Overflow)
    }
}

/// Tiles that hold `rows` rows.
pub(crate) fn tiles(rows: usize) -> usize {
    rows.div_ceil(ROW_TILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_every_nibble_has_its_own_place() {
        for (rows, unit) in [(1, 4), (4, 2), (4, 4), (2, 8), (8, 4), (16, 4), (8, 16)] {
            let interleave = Interleave {
                rows,
                unit,
                nibbles: if (rows, unit) == (4, 4) {
                    Nibbles::Rows
                } else {
                    Nibbles::Columns
                },
                ..Interleave::DENSE
            };
            for row_bytes in [8, 16, 32].into_iter().filter(|bytes| bytes % unit == 0) {
                let mut seen = std::vec![false; ROW_TILE * row_bytes];
                for row in 0..ROW_TILE {
                    for byte in 0..row_bytes {
                        seen[interleave.position(row, byte, row_bytes)] = true;
                    }
                }
                assert!(seen.into_iter().all(|s| s));
                let mut seen = std::vec![0u8; ROW_TILE * row_bytes];
                for row in 0..ROW_TILE {
                    for place in 0..2 * row_bytes {
                        let place = interleave.nibble(row, place, row_bytes);
                        seen[place.byte] += 1 << place.shift;
                    }
                }
                assert!(seen.into_iter().all(|s| s == 0x11));
            }
        }
    }
}
