//! Bidirectional encoders: BERT, with a head for sentence embeddings or for classes.

use super::{Activation, Positions};

/// How token states become one sentence embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// No sentence embedding.
    None,
    /// Mean over the tokens that the attention mask keeps.
    Mean,
    /// The state of the first token.
    Cls,
    /// Maximum over the tokens that the attention mask keeps.
    Max,
}

/// A BERT encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Hugging Face's `model_type`.
    pub model_type: String,
    /// Tokens in the vocabulary: rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest sequence in tokens: rows of the position table.
    pub context_length: usize,
    /// Number of token types (segments): rows of the token-type table; 0 when there is no such table.
    pub token_types: usize,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Epsilon of LayerNorm.
    pub norm_eps: f32,
    /// How positions enter the model; never [`Positions::Rotary`].
    pub positions: Positions,
    /// How a sentence embedding is made.
    pub pooling: Pooling,
    /// Whether the sentence embedding is divided by its Euclidean norm.
    pub normalise: bool,
    /// Names of the classes, in the order of their logits, of a model that tells what a text is
    /// (`BertForSequenceClassification`); empty for any other.
    pub labels: Vec<String>,
}

impl EncoderConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size.checked_div(self.heads).unwrap_or(0)
    }
}
