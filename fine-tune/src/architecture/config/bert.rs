//! Configs of BERT encoders.

use super::gpt2::absolute_positions;
use super::{Fields, MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, SentenceHead, check_class};
use crate::architecture::{Activation, EncoderConfig};
use crate::error::Result;

/// Classes whose encoder is all that an embedding needs; heads for classification would be lost silently.
const CLASSES: &[&str] = &["BertModel", "BertForMaskedLM", "BertForPreTraining"];

pub fn parse(fields: &Fields, head: SentenceHead) -> Result<EncoderConfig> {
    check_class(fields, CLASSES)?;
    fields.refuse("is_decoder", "false: BERT as an encoder")?;
    let hidden_size = fields.size("hidden_size", MAX_WIDTH)?;
    let heads = fields.size("num_attention_heads", MAX_WIDTH)?;
    if hidden_size % heads != 0 {
        return Err(fields.unsupported(
            "num_attention_heads",
            heads,
            &format!("a divisor of hidden_size, {hidden_size}"),
        ));
    }
    let name = fields.text("hidden_act")?.unwrap_or("gelu");
    let activation = Activation::from_name(name)
        .filter(|activation| *activation != Activation::Silu)
        .ok_or_else(|| fields.unsupported("hidden_act", name, "gelu, gelu_new, relu"))?;
    Ok(EncoderConfig {
        model_type: "bert".to_owned(),
        vocab_size: fields.size("vocab_size", MAX_VOCAB)?,
        hidden_size,
        layers: fields.size("num_hidden_layers", MAX_LAYERS)?,
        heads,
        intermediate_size: fields.size("intermediate_size", MAX_WIDTH)?,
        context_length: fields.size("max_position_embeddings", MAX_CONTEXT)?,
        token_types: fields.count_or("type_vocab_size", MAX_VOCAB, 2)?,
        activation,
        norm_eps: fields.epsilon_or("layer_norm_eps", 1e-12)?,
        positions: absolute_positions(fields)?,
        pooling: head.pooling,
        normalise: head.normalise,
    })
}
