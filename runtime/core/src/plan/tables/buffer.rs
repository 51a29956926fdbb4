//! Parts of the arena: what they hold, how large they are, and when they are in use.

use crate::attention::{q8_columns, q8_scales};
use crate::plan::ARENA_ALIGN;
use crate::plan::header::CacheFormat;
use crate::plan::record::{Reader, Writer};
use core::ops::Range;

/// Bytes of a buffer's record.
pub const BUFFER_BYTES: usize = 24;

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Content {
    /// f32, `[rows, columns]`: a row for each token of a tile, or one.
    Floats,
    /// Activations that a kernel has prepared, or other working memory, as bytes `[rows · columns]`.
    Bytes,
    /// Keys or values of one layer in the header's format, `[heads, context, columns]` with `rows = heads · context`.
    Cache,
    /// Token ids as u32, or other words, `[rows, columns]`.
    Words,
}

/// A part of the arena, and when it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Buffer {
    /// What it holds.
    pub content: Content,
    /// Where it starts in the arena: a multiple of [`ARENA_ALIGN`].
    pub offset: u32,
    /// Its size.
    pub bytes: u32,
    /// See [`Content`].
    pub rows: u32,
    /// See [`Content`].
    pub columns: u32,
    /// The first op that uses it.
    pub first: u16,
    /// The last op that uses it. The sampler counts as the op after the last one, the tokenizer as the one after that;
    /// what outlives a tile is in use from 0 to 65535.
    pub last: u16,
}

impl Buffer {
    /// The record in the image.
    pub fn encode(&self) -> [u8; BUFFER_BYTES] {
        let content = match self.content {
            Content::Floats => 0,
            Content::Bytes => 1,
            Content::Cache => 2,
            Content::Words => 3,
        };
        Writer::new()
            .u32(self.offset)
            .u32(self.bytes)
            .u32(self.rows)
            .u32(self.columns)
            .u16(self.first)
            .u16(self.last)
            .u8(content)
            .finish()
    }

    pub(in crate::plan) fn decode(record: &[u8]) -> Option<Buffer> {
        let mut reader = Reader::new(record);
        let [offset, bytes, rows, columns] = [(); 4].map(|()| reader.u32());
        let (first, last) = (reader.u16(), reader.u16());
        let content = match reader.u8() {
            0 => Content::Floats,
            1 => Content::Bytes,
            2 => Content::Cache,
            3 => Content::Words,
            _ => return None,
        };
        Some(Buffer {
            content,
            offset,
            bytes,
            rows,
            columns,
            first,
            last,
        })
    }

    /// The bytes that `rows` rows of `columns` take. A q8 cache has all codes first, rows padded to whole blocks, and then the
    /// scales.
    pub fn bytes_of(content: Content, cache: CacheFormat, rows: u32, columns: u32) -> Option<u32> {
        let numbers = rows.checked_mul(columns)?;
        match (content, cache) {
            (Content::Bytes, _) => Some(numbers),
            (Content::Floats | Content::Words, _) | (Content::Cache, CacheFormat::F32) => {
                numbers.checked_mul(4)
            }
            (Content::Cache, CacheFormat::F16) => numbers.checked_mul(2),
            (Content::Cache, CacheFormat::Q8) => {
                let row = q8_columns(columns as usize) + 4 * q8_scales(columns as usize);
                rows.checked_mul(u32::try_from(row).ok()?)
            }
        }
    }

    /// Its bytes in the arena.
    pub fn range(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start.saturating_add(self.bytes as usize)
    }

    /// Whether it is in use while op `index` runs.
    pub(in crate::plan) fn lives_at(&self, index: usize) -> bool {
        (usize::from(self.first)..=usize::from(self.last)).contains(&index)
    }

    /// Checks size and place.
    pub(in crate::plan) fn fits(&self, cache: CacheFormat, arena_bytes: u32) -> bool {
        let end = self.offset.checked_add(self.bytes);
        Buffer::bytes_of(self.content, cache, self.rows, self.columns) == Some(self.bytes)
            && (self.offset as usize).is_multiple_of(ARENA_ALIGN)
            && end.is_some_and(|end| end <= arena_bytes)
            && self.first <= self.last
    }

    /// Whether the two would overwrite each other.
    pub(in crate::plan) fn clashes(&self, other: &Buffer) -> bool {
        let in_time = self.first <= other.last && other.first <= self.last;
        let (a, b) = (self.range(), other.range());
        in_time && a.start < b.end && b.start < a.end && !a.is_empty() && !b.is_empty()
    }
}
