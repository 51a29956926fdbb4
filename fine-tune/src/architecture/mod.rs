//! The architecture of a model as types: what a config says, checked once, so that nothing after the
//! config parser has to ask whether a combination makes sense.

pub mod config;
mod decoder;
mod encoder;
mod positions;
mod tensors;

pub use decoder::{Biases, DecoderConfig, DecoderFamily};
pub use encoder::{EncoderConfig, Pooling};
pub use positions::{Llama3Scaling, Positions, RopeScaling, Rotary, YarnScaling, sinusoidal_table};
pub use tensors::TensorSpec;

/// A model that can be exported.
#[derive(Debug, Clone, PartialEq)]
pub enum Architecture {
    /// A causal language model with a key/value cache.
    Decoder(DecoderConfig),
    /// A bidirectional encoder, usually of sentences.
    Encoder(EncoderConfig),
}

impl Architecture {
    /// Hugging Face's `model_type`: `llama`, `mistral`, `qwen2`, `qwen3`, `gpt2` or `bert`.
    pub fn model_type(&self) -> &str {
        match self {
            Architecture::Decoder(config) => &config.model_type,
            Architecture::Encoder(config) => &config.model_type,
        }
    }

    /// The longest sequence the model takes, in tokens.
    pub fn context_length(&self) -> usize {
        match self {
            Architecture::Decoder(config) => config.context_length,
            Architecture::Encoder(config) => config.context_length,
        }
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        match self {
            Architecture::Decoder(config) => config.vocab_size,
            Architecture::Encoder(config) => config.vocab_size,
        }
    }
}

/// Activation functions between the two halves of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`; as the gate of SwiGLU.
    Silu,
    /// GELU with the tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// GELU with the error function (`gelu`).
    GeluErf,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// The activation that Hugging Face's config calls `name`, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Activation> {
        match name {
            "silu" | "swish" => Some(Activation::Silu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Some(Activation::GeluTanh),
            "gelu" | "gelu_python" => Some(Activation::GeluErf),
            "relu" => Some(Activation::Relu),
            _ => None,
        }
    }

    /// The name in a Hugging Face config.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_new",
            Activation::GeluErf => "gelu",
            Activation::Relu => "relu",
        }
    }
}
