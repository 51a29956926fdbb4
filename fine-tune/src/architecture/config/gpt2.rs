//! Configs of the GPT-2 family.
//!
//! Two fields are ours, for decoders with the original transformer's input: `position_embedding_type` of `sinusoidal`
//! (then there is no `wpe`), and `scale_embedding`, which multiplies embedded tokens by `sqrt(n_embd)`.

use super::{Fields, MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, check_class};
use crate::architecture::{Activation, Biases, DecoderConfig, DecoderFamily, Positions};
use crate::error::Result;

pub fn parse(fields: &Fields) -> Result<DecoderConfig> {
    check_class(fields, &["GPT2LMHeadModel", "GPT2Model"])?;
    fields.refuse(
        "scale_attn_by_inverse_layer_idx",
        "false: one scale for all layers",
    )?;
    let size = |name: &str, other: &str, limit: usize| match fields.optional_size(name, limit)? {
        Some(size) => Ok(size),
        None => match fields.optional_size(other, limit)? {
            Some(size) => Ok(size),
            None => fields.size(name, limit),
        },
    };
    let hidden_size = size("n_embd", "hidden_size", MAX_WIDTH)?;
    let heads = size("n_head", "num_attention_heads", MAX_WIDTH)?;
    if hidden_size % heads != 0 {
        return Err(fields.unsupported(
            "n_head",
            heads,
            &format!("a divisor of n_embd, {hidden_size}"),
        ));
    }
    let head_dim = hidden_size / heads;
    let name = fields.text("activation_function")?.unwrap_or("gelu_new");
    let activation = Activation::from_name(name)
        .filter(|activation| *activation != Activation::Silu)
        .ok_or_else(|| fields.unsupported("activation_function", name, "gelu_new, gelu, relu"))?;
    let scaled = fields.flag_or("scale_attn_weights", true)?;
    Ok(DecoderConfig {
        family: DecoderFamily::Gpt2,
        model_type: "gpt2".to_owned(),
        vocab_size: fields.size("vocab_size", MAX_VOCAB)?,
        hidden_size,
        layers: size("n_layer", "num_hidden_layers", MAX_LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim,
        intermediate_size: fields
            .optional_size("n_inner", MAX_WIDTH)?
            .unwrap_or(hidden_size * 4),
        context_length: size("n_positions", "max_position_embeddings", MAX_CONTEXT)?,
        norm_eps: fields.epsilon_or("layer_norm_epsilon", 1e-5)?,
        positions: absolute_positions(fields)?,
        activation,
        biases: Biases {
            qkv: true,
            attention_output: true,
            mlp: true,
        },
        qk_norm: false,
        tied_embeddings: fields.flag_or("tie_word_embeddings", true)?,
        attention_scale: if scaled {
            (head_dim as f64).powf(-0.5) as f32
        } else {
            1.0
        },
        embedding_scale: if fields.flag_or("scale_embedding", false)? {
            (hidden_size as f64).sqrt() as f32
        } else {
            1.0
        },
    })
}

/// Positions that are added to the embedding: the table that was trained, or sinusoids.
pub fn absolute_positions(fields: &Fields) -> Result<Positions> {
    match fields
        .text("position_embedding_type")?
        .unwrap_or("absolute")
    {
        "absolute" | "learned" => Ok(Positions::Learned),
        "sinusoidal" => Ok(Positions::Sinusoidal),
        other => Err(fields.unsupported(
            "position_embedding_type",
            other,
            "absolute (learned), sinusoidal",
        )),
    }
}
