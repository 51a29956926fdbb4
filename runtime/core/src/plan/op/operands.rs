//! What ops name beside buffers and tensors.

use crate::plan::{BufferId, TensorId};
use crate::rope::RopePairs;

/// Which row of a table a token takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Index {
    /// That of its id.
    Token,
    /// That of its position.
    Position,
    /// The first (the type of a sentence that stands alone).
    First,
}

/// Which tokens of a tile an op works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Rows {
    /// All of them.
    All,
    /// The last one: what only the next token's logits need.
    Last,
}

/// What a cache keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kept {
    /// Its keys.
    Keys,
    /// Its values, which lie in another order where a cache has 8 bits.
    Values,
}

/// An element-wise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by the error function.
    GeluErf,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// Hyperbolic tangent: a classifier's pooled token.
    Tanh,
}

/// Cosines and sines by position, `[context or more, rotary columns / 2]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rope {
    /// The cosines.
    pub cos: TensorId,
    /// The sines.
    pub sin: TensorId,
    /// Which columns are turned together.
    pub pairs: RopePairs,
}

/// Some columns of a buffer of floats, from `column` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Columns {
    /// The buffer.
    pub buffer: BufferId,
    /// The first of them.
    pub column: u16,
}

/// Heads that lie side by side: `count` of `dim` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Heads {
    /// How many.
    pub count: u16,
    /// Columns of each.
    pub dim: u16,
}

impl Heads {
    /// Columns of all.
    pub fn columns(self) -> usize {
        usize::from(self.count) * usize::from(self.dim)
    }
}

/// How patches are cut out of numbers `[height, width, channels]`, wherever these lie, for a convolution over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Patches {
    /// Height, width and channels.
    pub size: [u16; 3],
    /// Numbers from one to the next along each of these.
    pub strides: [u32; 3],
    /// Height and width of a patch.
    pub kernel: [u16; 2],
    /// From one patch to the next, down and across.
    pub step: [u16; 2],
    /// Zeros above and to the left.
    pub pad: [u16; 2],
    /// How many patches, down and across.
    pub places: [u32; 2],
}
