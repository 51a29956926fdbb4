//! Why a call was refused: small `Copy` values that fit in a register.

use crate::Feature;

/// Which argument of a call an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Operand {
    /// Integer codes of block-quantised weights.
    Codes,
    /// Scales of block-quantised weights.
    Scales,
    /// Zero points of block-quantised weights.
    ZeroPoints,
    /// Unquantised weights.
    Values,
    /// The packed weights of a kernel.
    Packed,
    /// The prepared activations of a kernel.
    Activations,
    /// The f32 input.
    Input,
    /// The output.
    Output,
    /// Norm weight or bias.
    Parameters,
    /// Attention queries.
    Queries,
    /// Cached keys.
    Keys,
    /// Cached values.
    CachedValues,
    /// Cosine or sine table.
    RotaryTable,
    /// Working memory lent by the caller.
    Scratch,
}

impl core::fmt::Display for Operand {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Operand::Codes => "weight codes",
            Operand::Scales => "weight scales",
            Operand::ZeroPoints => "weight zero points",
            Operand::Values => "weight values",
            Operand::Packed => "packed weights",
            Operand::Activations => "prepared activations",
            Operand::Input => "input",
            Operand::Output => "output",
            Operand::Parameters => "norm parameters",
            Operand::Queries => "queries",
            Operand::Keys => "cached keys",
            Operand::CachedValues => "cached values",
            Operand::RotaryTable => "rotary table",
            Operand::Scratch => "scratch",
        })
    }
}

/// Why a call was refused. Nothing was written when one is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// A slice does not have the length that the shapes ask for.
    #[error(
        "the {0} do not have the length that the shape asks for: check rows, columns and tokens"
    )]
    Length(Operand),
    /// A slice starts at an address that the instruction set can't load from.
    #[error("the {0} start at an odd address: align them to 64 bytes, at least to 4")]
    Alignment(Operand),
    /// The product of the shapes does not fit this machine's address space.
    #[error("the shape is too large for this machine's address space: use a smaller model")]
    Overflow,
    /// Codes of this width are not supported.
    #[error("weights of {0} bits are not supported: quantise to 4 or 8 bits")]
    Bits(u8),
    /// Blocks of this size are not supported.
    #[error("blocks of {0} columns are not supported: quantise with 16, 32, 64, 128 or 256")]
    BlockSize(u32),
    /// A kernel was given weights of another format than it was selected for.
    #[error(
        "the weights are not of the format this kernel was selected for: select one for their format"
    )]
    Format,
    /// A row range is outside the matrix or is not on the kernel's tile boundaries.
    #[error(
        "the row range is outside the matrix or does not start and end on a tile: split at multiples of row_tile()"
    )]
    RowRange,
    /// A sampling parameter is out of range.
    #[error(
        "a sampling parameter is out of range: temperature, top_p, min_p and the penalty must be finite and not negative"
    )]
    Sampling,
    /// A part of this crate that was left out of the build.
    #[error("this build leaves out {}: turn on that cargo feature of furlong-core", .0.name())]
    Feature(Feature),
    /// A head dimension, a group or another shape parameter is zero or inconsistent.
    #[error("a shape parameter is zero or inconsistent with the others")]
    Shape,
}
