//! Why a plan was refused, or failed: a small `Copy` value that fits in a few registers.

use crate::{Error, Feature, IsaKind};

/// Which part of a plan's image a [`PlanError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Part {
    /// The header's own numbers.
    Header,
    /// The table of ops.
    Ops,
    /// The table of buffers.
    Buffers,
    /// The table of tensors.
    Tensors,
    /// The tokenizer.
    Tokenizer,
}

impl core::fmt::Display for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Part::Header => "header",
            Part::Ops => "op table",
            Part::Buffers => "buffer table",
            Part::Tensors => "tensor table",
            Part::Tokenizer => "tokenizer",
        })
    }
}

/// Why a plan was refused, or a call on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PlanError {
    /// The first bytes are not a plan's.
    #[error("this is not a plan: make one with `furlong plan`")]
    Magic,
    /// The plan is of another version of the format.
    #[error("the plan has version {0} of the format, this program reads {version}: make the plan again", version = super::VERSION)]
    Version(u16),
    /// The image is shorter or longer than its header says.
    #[error("the plan should have {wanted} bytes but has {found}: copy or flash it again")]
    Size {
        /// Bytes that the header names.
        wanted: u32,
        /// Bytes there are, as far as 32 bits hold them.
        found: u32,
    },
    /// The bytes are not those that were written.
    #[error("the plan is damaged, its checksum is wrong: copy or flash it again")]
    Checksum,
    /// The image does not start at a multiple of four bytes.
    #[error("the plan lies at an odd address: align it to 64 bytes, at least to 4")]
    Alignment,
    /// Numbers of more than one byte have the wrong order on this machine.
    #[error("plans are little-endian, and this machine is not")]
    Endian,
    /// A part of the image contradicts itself.
    #[error("the plan's {0} contradicts itself: make the plan again")]
    Part(Part),
    /// A buffer is outside the arena, or has no size that fits its shape.
    #[error("buffer {0} of the plan does not fit its shape or the arena: make the plan again")]
    Buffer(u16),
    /// Two buffers share memory while both are in use.
    #[error(
        "buffers {0} and {1} of the plan share memory while both are in use: make the plan again"
    )]
    Overlap(u16, u16),
    /// A tensor is outside the image, or has no size that fits its shape.
    #[error("tensor {0} of the plan does not fit its shape or the image: make the plan again")]
    Tensor(u16),
    /// An op's operands don't fit together.
    #[error("op {0} of the plan has operands that don't fit together: make the plan again")]
    Op(u16),
    /// The weights are packed for an instruction set that this CPU doesn't have.
    #[error("the plan is packed for {}, which this CPU does not have: make it for this board", .0.name())]
    Isa(IsaKind),
    /// The plan needs a part of this crate that was left out of the build.
    #[error("the plan needs {}, which this build leaves out: turn on that cargo feature of furlong-core", .0.name())]
    Feature(Feature),
    /// The arena is too small.
    #[error(
        "the plan needs an arena of {needed} bytes, this one has {given}: lend more, or make the plan with a shorter context"
    )]
    Arena {
        /// Bytes that are needed, alignment included.
        needed: u32,
        /// Bytes there are, as far as 32 bits hold them.
        given: u32,
    },
    /// More tokens than the context has room for.
    #[error("the context is full: shorten the text, or make the plan with a longer context")]
    ContextFull,
    /// A token that the model doesn't know.
    #[error("token {0} is not in the vocabulary: is this the model's own tokenizer?")]
    Token(u32),
    /// The call needs something that the plan or the session doesn't have now.
    #[error("the call does not fit the plan or what the session is doing")]
    Usage,
    /// A kernel refused a call.
    #[error("a kernel refused: {0}")]
    Kernel(#[from] Error),
}
