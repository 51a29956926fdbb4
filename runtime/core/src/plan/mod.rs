//! A model as one flat image, executed where it lies: for machines without an operating system or a heap.
//!
//! The runtime lowers a model on the host (`furlong plan`): ops in order, static shapes, the place of each value in one
//! arena, weights packed for the board's kernels, the tokenizer, how to sample. Here the image is
//!
//! 1. checked whole, once: [`Plan::check`] takes no memory, and refuses what could not run;
//! 2. executed: a [`Session`] lends an arena `&mut [u8]` and does a bounded amount of work with each
//!    [`Session::step`], so that a watchdog can be fed in between;
//! 3. made to answer: an [`Answer`] reads a prompt, samples, and reads what it sampled.
//!
//! The kernels are those that the host's runtime calls, on the same weights, so the tokens are the same.
//! `docs/plan-format.md` describes the bytes.

mod answer;
mod attend;
mod cast;
mod check;
mod checksum;
mod convolve;
mod error;
mod execute;
mod header;
mod needs;
mod op;
mod pool;
mod products;
mod record;
mod session;
mod tables;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use answer::{Answer, Event, Finish};
pub use error::{Part, PlanError};
pub use header::{CacheFormat, HEADER_BYTES, Header, MAGIC, NO_TOKEN, PlanKind, Table, VERSION};
pub use op::{Activation, Columns, Heads, Index, Kept, OP_BYTES, Op, Patches, Rope, Rows};
pub use session::{Session, Step};
pub use tables::{
    BUFFER_BYTES, BlockParts, Buffer, BufferId, Content, Points, TENSOR_ALIGN, TENSOR_BYTES,
    Tensor, TensorFormat, TensorId,
};

pub use tokenizer::{
    CLASS_BYTES, CharacterClass, Cut, EXPANSION_BYTES, MERGE_BYTES, RULE_BYTES, Scheme,
    TOKENIZER_HEADER_BYTES, Tokenizer, TokenizerCounts, WORDS_PER_BYTE,
};

use crate::Feature;
use tables::record;

/// The arena, and every buffer in it, starts at a multiple of this.
pub const ARENA_ALIGN: usize = 16;

/// An image that was checked. Copies are cheap and read the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p> {
    image: &'p [u8],
    header: Header,
}

impl<'p> Plan<'p> {
    /// Checks all of an image: magic, version, size, checksum, every table and every op. It must start at a multiple of
    /// four bytes, better of 64, and may be followed by other bytes (the rest of a flash sector).
    ///
    /// # Errors
    /// What is wrong first, as [`PlanError`].
    pub fn check(image: &'p [u8]) -> Result<Plan<'p>, PlanError> {
        check::check(image)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The image, as long as its header says.
    pub fn image(&self) -> &'p [u8] {
        self.image
    }

    /// Bytes of an arena that is enough wherever it starts. One that starts at a multiple of [`ARENA_ALIGN`] needs only
    /// the header's `arena_bytes`.
    pub fn arena_bytes(&self) -> usize {
        (self.header.arena_bytes as usize).saturating_add(ARENA_ALIGN - 1)
    }

    /// Number of ops.
    pub fn op_count(&self) -> usize {
        self.header.ops.count as usize
    }

    /// An op of the plan.
    ///
    /// # Errors
    /// [`PlanError::Part`] for one that isn't there.
    pub fn op(&self, index: usize) -> Result<Op, PlanError> {
        let refuse = PlanError::Part(Part::Ops);
        let index = u16::try_from(index).map_err(|_| refuse)?;
        let bytes = record(self.image, self.header.ops, OP_BYTES, index, Part::Ops)?;
        Op::decode(bytes).ok_or(PlanError::Op(index))
    }

    /// A buffer of the plan.
    ///
    /// # Errors
    /// [`PlanError::Part`] for one that isn't there.
    pub fn buffer(&self, id: BufferId) -> Result<Buffer, PlanError> {
        let table = self.header.buffers;
        let bytes = record(self.image, table, BUFFER_BYTES, id.0, Part::Buffers)?;
        Buffer::decode(bytes).ok_or(PlanError::Buffer(id.0))
    }

    /// A tensor of the plan.
    ///
    /// # Errors
    /// [`PlanError::Part`] for one that isn't there.
    pub fn tensor(&self, id: TensorId) -> Result<Tensor, PlanError> {
        let table = self.header.tensors;
        let bytes = record(self.image, table, TENSOR_BYTES, id.0, Part::Tensors)?;
        Tensor::decode(bytes).ok_or(PlanError::Tensor(id.0))
    }

    /// The tokenizer, if the plan has one.
    pub fn tokenizer(&self) -> Option<Tokenizer<'p>> {
        match self.header.tokenizer.count {
            0 => None,
            _ => Tokenizer::read(self.image, self.header.tokenizer),
        }
    }

    /// Whether executing it needs a part of this crate that can be left out.
    ///
    /// # Errors
    /// As [`Plan::op`] and [`Plan::tensor`].
    pub fn needs(&self, feature: Feature) -> Result<bool, PlanError> {
        needs::needs(self, feature)
    }

    /// The bytes of a tensor.
    fn bytes_of(&self, tensor: &Tensor) -> &'p [u8] {
        let start = tensor.offset as usize;
        let end = start.saturating_add(tensor.bytes as usize);
        self.image.get(start..end).unwrap_or_default()
    }

    /// A tensor of f32.
    fn floats(&self, id: TensorId) -> Result<&'p [f32], PlanError> {
        let tensor = self.tensor(id)?;
        match tensor.format {
            TensorFormat::Floats => Ok(cast::floats(self.bytes_of(&tensor))?),
            _ => Err(PlanError::Tensor(id.0)),
        }
    }

    /// A tensor of f32, if there is one.
    fn optional_floats(&self, id: Option<TensorId>) -> Result<Option<&'p [f32]>, PlanError> {
        id.map(|id| self.floats(id)).transpose()
    }
}

/// Writes the checksum of a finished image into its header: the last thing that whoever makes one does.
///
/// # Errors
/// [`PlanError::Size`] for an image without a header.
pub fn seal(image: &mut [u8]) -> Result<(), PlanError> {
    let found = image.len() as u32;
    let wanted = HEADER_BYTES as u32;
    let sum = match image.get(header::UNCHECKED_BYTES..) {
        Some(rest) if found >= wanted => checksum::crc32(rest),
        _ => return Err(PlanError::Size { wanted, found }),
    };
    let place = image.iter_mut().skip(header::UNCHECKED_BYTES - 4);
    place
        .zip(sum.to_le_bytes())
        .for_each(|(to, byte)| *to = byte);
    Ok(())
}
