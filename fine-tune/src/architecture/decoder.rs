//! Causal decoders: the Llama family and the GPT-2 family.

use super::{Activation, Positions};

/// Which block layout a decoder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderFamily {
    /// RMSNorm before attention and a gated feed-forward (`down(act(gate(x)) * up(x))`); linear weights are `[out, in]`.
    Llama,
    /// LayerNorm with bias before attention and a two-layer feed-forward; linear weights are Conv1D's `[in, out]`, q, k and v
    /// in one `c_attn` of `[hidden, 3 * hidden]`.
    Gpt2,
}

/// Which linear layers of a Llama block have a bias. (GPT-2's all have.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    /// q, k and v projections.
    pub qkv: bool,
    /// The attention's output projection.
    pub attention_output: bool,
    /// gate, up and down projections.
    pub mlp: bool,
}

/// A causal decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Block layout.
    pub family: DecoderFamily,
    /// Hugging Face's `model_type`.
    pub model_type: String,
    /// Tokens in the vocabulary: rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` may differ from `hidden_size`.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Epsilon of RMSNorm or LayerNorm.
    pub norm_eps: f32,
    /// How positions enter the model.
    pub positions: Positions,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Which linear layers have a bias.
    pub biases: Biases,
    /// Whether q and k pass through an RMSNorm over each head (`q_norm`, `k_norm` of `[head_dim]`), before rotation.
    pub qk_norm: bool,
    /// Whether the output head is the embedding itself; then there is no `lm_head.weight`.
    pub tied_embeddings: bool,
    /// What the scores `q·k` are multiplied by; usually `1 / sqrt(head_dim)`.
    pub attention_scale: f32,
    /// What embedded tokens are multiplied by before positions are added; 1 unless the config has `scale_embedding`
    /// (then `sqrt(hidden_size)`, as in the original transformer).
    pub embedding_scale: f32,
}

impl DecoderConfig {
    /// Width of the query projection: `heads * head_dim`.
    pub fn query_width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Width of the key and of the value projection: `kv_heads * head_dim`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads.saturating_mul(self.head_dim)
    }
}
