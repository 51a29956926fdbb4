//! What a firmware can leave out: cargo features, and which of them are built in.
//!
//! Flash is short on microcontrollers, and a firmware that carries its plan knows what the plan needs
//! ([`Plan::needs`](crate::plan::Plan::needs)). A plan that needs more is refused when it is checked. With cargo's default features all are there.

use crate::{Error, WeightFormat};

/// A part of the crate that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Feature {
    /// Weights of 4 bits.
    Q4,
    /// Weights of 8 bits.
    Q8,
    /// Weights that aren't quantised: f16, f32.
    Dense,
    /// Keys and values as f16.
    KvF16,
    /// Keys and values as f32.
    KvF32,
    /// Keys and values in 8 bits.
    KvQ8,
    /// What only encoders and classifiers have: attention over a whole text, pooling, convolutions, weights with one scale a row.
    Encoder,
    /// The scalar kernels on a microcontroller that has better ones: plans packed for no instruction set, blocks of 16 columns.
    Scalar,
    /// Tables of embeddings that are no weights of a product too: token embeddings apart from the output, learned positions.
    Table,
    /// Tokenizers that cut a text into words first: by a regular expression, or WordPiece.
    Words,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 10] = [
        Feature::Q4,
        Feature::Q8,
        Feature::Dense,
        Feature::KvF16,
        Feature::KvF32,
        Feature::KvQ8,
        Feature::Encoder,
        Feature::Scalar,
        Feature::Table,
        Feature::Words,
    ];

    /// The name of the cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Q4 => "q4",
            Feature::Q8 => "q8",
            Feature::Dense => "dense",
            Feature::KvF16 => "kv-f16",
            Feature::KvF32 => "kv-f32",
            Feature::KvQ8 => "kv-q8",
            Feature::Encoder => "encoder",
            Feature::Scalar => "scalar",
            Feature::Table => "table",
            Feature::Words => "words",
        }
    }

    /// What kernels for weights of this format belong to.
    pub const fn of_weights(format: WeightFormat) -> Feature {
        match format {
            WeightFormat::Block { bits, .. } => Feature::of_bits(bits),
            WeightFormat::F16 | WeightFormat::F32 => Feature::Dense,
        }
    }

    /// What kernels for quantised weights of so many bits belong to.
    pub(crate) const fn of_bits(bits: u8) -> Feature {
        match bits {
            4 => Feature::Q4,
            _ => Feature::Q8,
        }
    }

    /// Refuses what is not part of this build.
    pub(crate) const fn require(self) -> Result<(), Error> {
        match self.is_built() {
            true => Ok(()),
            false => Err(Error::Feature(self)),
        }
    }

    /// Whether it is part of this build.
    pub const fn is_built(self) -> bool {
        match self {
            Feature::Q4 => cfg!(feature = "q4"),
            Feature::Q8 => cfg!(feature = "q8"),
            Feature::Dense => cfg!(feature = "dense"),
            Feature::KvF16 => cfg!(feature = "kv-f16"),
            Feature::KvF32 => cfg!(feature = "kv-f32"),
            Feature::KvQ8 => cfg!(feature = "kv-q8"),
            Feature::Encoder => cfg!(feature = "encoder"),
            Feature::Table => cfg!(feature = "table"),
            Feature::Words => cfg!(feature = "words"),
            // Where there is nothing else they are always there.
            Feature::Scalar => cfg!(any(feature = "scalar", not(arm_dsp))),
        }
    }
}
