//! The layers of decoders: the Llama family and the GPT-2 family.

use super::ModelOptions;
use super::block::{Block, NormOrder, Projections};
use super::body::{Body, Names};
use crate::architecture::{DecoderConfig, DecoderFamily, Positions};
use crate::error::Result;
use crate::train::layers::{AttentionShape, Mlp, Site, WeightLayout};

/// The layers of a decoder.
///
/// # Errors
/// When a parameter is missing.
pub fn body(config: &DecoderConfig, options: &ModelOptions, names: &Names) -> Result<Body> {
    let (embedding, norm) = match config.family {
        DecoderFamily::Llama => (
            "model.embed_tokens.weight",
            names.rms("model.norm", config.norm_eps)?,
        ),
        DecoderFamily::Gpt2 => (
            "transformer.wte.weight",
            names.layer("transformer.ln_f", config.norm_eps)?,
        ),
    };
    let embedding = names.find(embedding)?;
    let block = |layer| match config.family {
        DecoderFamily::Llama => llama_block(config, options, names, layer),
        DecoderFamily::Gpt2 => gpt2_block(config, options, names, layer),
    };
    Ok(Body {
        vocab_size: config.vocab_size,
        context_length: config.context_length,
        width: config.hidden_size,
        causal: true,
        embedding,
        embedding_scale: config.embedding_scale,
        positions: config.positions.clone(),
        position_table: match config.positions {
            Positions::Learned => Some(names.find("transformer.wpe.weight")?),
            Positions::Rotary(_) | Positions::Sinusoidal => None,
        },
        type_table: None,
        embedding_norm: None,
        blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
        norm: Some(norm),
        head: Some(if config.tied_embeddings {
            embedding
        } else {
            names.find("lm_head.weight")?
        }),
        classifier: None,
    })
}

fn attention_shape(config: &DecoderConfig) -> AttentionShape {
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale,
    }
}

fn llama_block(
    config: &DecoderConfig,
    options: &ModelOptions,
    names: &Names,
    layer: usize,
) -> Result<Block> {
    let block = format!("model.layers.{layer}");
    let (attention, mlp) = (format!("{block}.self_attn"), format!("{block}.mlp"));
    let eps = config.norm_eps;
    let linear = |module: String, bias: bool, site: usize| {
        names.linear(module, WeightLayout::OutIn, bias, Site::new(layer, site))
    };
    let biases = config.biases;
    Ok(Block {
        index: layer,
        order: NormOrder::Before,
        attention_norm: names.rms(&format!("{block}.input_layernorm"), eps)?,
        projections: Projections::Separate(Box::new([
            linear(format!("{attention}.q_proj"), biases.qkv, 0)?,
            linear(format!("{attention}.k_proj"), biases.qkv, 1)?,
            linear(format!("{attention}.v_proj"), biases.qkv, 2)?,
        ])),
        head_norms: if config.qk_norm {
            Some([
                names.rms(&format!("{attention}.q_norm"), eps)?,
                names.rms(&format!("{attention}.k_norm"), eps)?,
            ])
        } else {
            None
        },
        shape: attention_shape(config),
        attention_output: linear(format!("{attention}.o_proj"), biases.attention_output, 3)?,
        mlp_norm: names.rms(&format!("{block}.post_attention_layernorm"), eps)?,
        gate: Some(linear(format!("{mlp}.gate_proj"), biases.mlp, 4)?),
        up: linear(format!("{mlp}.up_proj"), biases.mlp, 5)?,
        mlp: Mlp {
            activation: config.activation,
        },
        down: linear(format!("{mlp}.down_proj"), biases.mlp, 6)?,
        residual_dropout: options.residual_dropout,
        attention_dropout: options.attention_dropout,
    })
}

fn gpt2_block(
    config: &DecoderConfig,
    options: &ModelOptions,
    names: &Names,
    layer: usize,
) -> Result<Block> {
    let block = format!("transformer.h.{layer}");
    let eps = config.norm_eps;
    let linear = |module: &str, site: usize| {
        names.linear(
            format!("{block}.{module}"),
            WeightLayout::InOut,
            true,
            Site::new(layer, site),
        )
    };
    Ok(Block {
        index: layer,
        order: NormOrder::Before,
        attention_norm: names.layer(&format!("{block}.ln_1"), eps)?,
        projections: Projections::Fused(Box::new(linear("attn.c_attn", 0)?)),
        head_norms: None,
        shape: attention_shape(config),
        attention_output: linear("attn.c_proj", 1)?,
        mlp_norm: names.layer(&format!("{block}.ln_2"), eps)?,
        gate: None,
        up: linear("mlp.c_fc", 2)?,
        mlp: Mlp {
            activation: config.activation,
        },
        down: linear("mlp.c_proj", 3)?,
        residual_dropout: options.residual_dropout,
        attention_dropout: options.attention_dropout,
    })
}
