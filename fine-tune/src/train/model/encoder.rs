//! The layers of encoders: BERT.

use super::ModelOptions;
use super::block::{Block, NormOrder, Projections};
use super::body::{Body, Names};
use super::classes::Classifier;
use crate::architecture::{EncoderConfig, Positions};
use crate::error::Result;
use crate::train::layers::{AttentionShape, Mlp, Site, WeightLayout};

/// The layers of an encoder.
///
/// # Errors
/// When a parameter is missing.
pub fn body(config: &EncoderConfig, options: &ModelOptions, names: &Names) -> Result<Body> {
    let find_if = |there: bool, name: &str| there.then(|| names.find(name)).transpose();
    Ok(Body {
        vocab_size: config.vocab_size,
        context_length: config.context_length,
        width: config.hidden_size,
        causal: false,
        embedding: names.find("embeddings.word_embeddings.weight")?,
        embedding_scale: 1.0,
        positions: config.positions.clone(),
        position_table: find_if(
            config.positions == Positions::Learned,
            "embeddings.position_embeddings.weight",
        )?,
        type_table: find_if(
            config.token_types > 0,
            "embeddings.token_type_embeddings.weight",
        )?,
        embedding_norm: Some(names.layer("embeddings.LayerNorm", config.norm_eps)?),
        blocks: (0..config.layers)
            .map(|layer| block(config, options, names, layer))
            .collect::<Result<_>>()?,
        norm: None,
        head: None,
        classifier: if config.labels.is_empty() {
            None
        } else {
            Some(Classifier::new(names, config.labels.len(), options)?)
        },
    })
}

fn block(
    config: &EncoderConfig,
    options: &ModelOptions,
    names: &Names,
    layer: usize,
) -> Result<Block> {
    let block = format!("encoder.layer.{layer}");
    let linear = |module: &str, site: usize| {
        let module = format!("{block}.{module}");
        names.linear(module, WeightLayout::OutIn, true, Site::new(layer, site))
    };
    let norm = |module: &str| names.layer(&format!("{block}.{module}"), config.norm_eps);
    Ok(Block {
        index: layer,
        order: NormOrder::After,
        attention_norm: norm("attention.output.LayerNorm")?,
        projections: Projections::Separate(Box::new([
            linear("attention.self.query", 0)?,
            linear("attention.self.key", 1)?,
            linear("attention.self.value", 2)?,
        ])),
        head_norms: None,
        shape: AttentionShape {
            heads: config.heads,
            kv_heads: config.heads,
            head_dim: config.head_dim(),
            scale: 1.0 / (config.head_dim() as f32).sqrt(),
        },
        attention_output: linear("attention.output.dense", 3)?,
        mlp_norm: norm("output.LayerNorm")?,
        gate: None,
        up: linear("intermediate.dense", 4)?,
        mlp: Mlp {
            activation: config.activation,
        },
        down: linear("output.dense", 5)?,
        residual_dropout: options.residual_dropout,
        attention_dropout: options.attention_dropout,
    })
}
