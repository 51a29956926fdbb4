//! Names of tensors: one canonical form for what different files call differently.

use crate::architecture::{Architecture, DecoderFamily};

/// The canonical name of what a Hugging Face file calls `name`: with `model.` or `transformer.` where a bare model was saved
/// without it, without `bert.` where a model with a head was saved with it.
pub fn canonical(architecture: &Architecture, name: &str) -> String {
    match architecture {
        Architecture::Decoder(config) => {
            let prefix = match config.family {
                DecoderFamily::Llama => "model.",
                DecoderFamily::Gpt2 => "transformer.",
            };
            if name.starts_with(prefix) || name.starts_with("lm_head.") {
                name.to_owned()
            } else {
                format!("{prefix}{name}")
            }
        }
        Architecture::Encoder(_) => {
            let name = name.strip_prefix("bert.").unwrap_or(name);
            match (name.strip_suffix(".gamma"), name.strip_suffix(".beta")) {
                (Some(stem), _) => format!("{stem}.weight"),
                (_, Some(stem)) => format!("{stem}.bias"),
                _ => name.to_owned(),
            }
        }
    }
}

/// The embedding of tokens.
pub fn embedding(architecture: &Architecture) -> &'static str {
    match architecture {
        Architecture::Decoder(config) => match config.family {
            DecoderFamily::Llama => "model.embed_tokens.weight",
            DecoderFamily::Gpt2 => "transformer.wte.weight",
        },
        Architecture::Encoder(_) => "embeddings.word_embeddings.weight",
    }
}

/// Whether a tensor that the architecture doesn't list may be left out: masks and frequencies that are computed, the copy of a
/// tied head, and heads that an embedding doesn't need.
pub fn is_spare(name: &str) -> bool {
    let computed = [
        ".rotary_emb.inv_freq",
        ".attn.bias",
        ".attn.masked_bias",
        "embeddings.position_ids",
        "embeddings.token_type_ids",
    ];
    let heads = ["pooler.", "cls.predictions.", "cls.seq_relationship."];
    name == "lm_head.weight"
        || computed.iter().any(|end| name.ends_with(end))
        || heads.iter().any(|start| name.starts_with(start))
}
