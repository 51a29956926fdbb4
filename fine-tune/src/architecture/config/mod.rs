//! From a Hugging Face `config.json` to an [`Architecture`], or to the reason why not.
//!
//! A GGUF file's metadata is first turned into such a config, so there is one place that decides what is supported.

mod bert;
mod fields;
mod gpt2;
mod llama;

use std::path::Path;

use serde_json::Value;

pub use bert::set_labels;
pub use fields::Fields;

use super::{Architecture, Pooling};
use crate::error::Result;

/// Widths: of the residual stream, of feed-forward layers, of heads.
pub(crate) const MAX_WIDTH: usize = 1 << 20;
/// Blocks in a model.
pub(crate) const MAX_LAYERS: usize = 1 << 12;
/// Tokens in a vocabulary.
pub(crate) const MAX_VOCAB: usize = 1 << 24;
/// Tokens in a context.
pub(crate) const MAX_CONTEXT: usize = 1 << 24;

/// What a sentence encoder does after its last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentenceHead {
    /// How token states become one embedding.
    pub pooling: Pooling,
    /// Whether the embedding is divided by its norm.
    pub normalise: bool,
}

impl SentenceHead {
    /// No sentence embedding at all.
    pub const NONE: SentenceHead = SentenceHead {
        pooling: Pooling::None,
        normalise: false,
    };
}

impl Architecture {
    /// Reads a Hugging Face config.
    ///
    /// `path` is named in errors. `head` says what follows an encoder's last block (it is not part of `config.json`) and is
    /// ignored for decoders.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::Error::Unsupported) for whatever would make the export another model than the checkpoint:
    /// another `model_type`, mixture of experts, a sliding window that is shorter than the context, an unknown rotary scaling or
    /// activation, relative positions, quantised weights; [`Malformed`](crate::error::Error::Malformed) for fields that are missing
    /// or make no sense.
    pub fn from_config(path: &Path, config: &Value, head: SentenceHead) -> Result<Architecture> {
        let fields = Fields::new(path, config)?;
        refuse_everywhere(&fields)?;
        match fields.text("model_type")?.unwrap_or("") {
            model_type @ ("llama" | "mistral" | "qwen2" | "qwen3") => {
                llama::parse(&fields, model_type).map(Architecture::Decoder)
            }
            "gpt2" => gpt2::parse(&fields).map(Architecture::Decoder),
            "bert" => bert::parse(&fields, head).map(Architecture::Encoder),
            other => Err(fields.unsupported(
                "model_type",
                if other.is_empty() { "missing" } else { other },
                "llama, mistral, qwen2, qwen3, gpt2, bert",
            )),
        }
    }
}

/// What no architecture of ours has.
fn refuse_everywhere(fields: &Fields) -> Result<()> {
    for name in ["quantization_config", "compression_config"] {
        fields.refuse(
            name,
            "weights in f32, f16 or bf16: start from the unquantised checkpoint",
        )?;
    }
    for name in [
        "num_local_experts",
        "num_experts",
        "n_routed_experts",
        "moe_intermediate_size",
    ] {
        fields.refuse(name, "dense models, without experts")?;
    }
    for name in [
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "use_mrope",
        "add_cross_attention",
    ] {
        fields.refuse(name, "models without it")?;
    }
    Ok(())
}

/// Refuses a model class whose head the export would lose.
fn check_class(fields: &Fields, supported: &[&str]) -> Result<()> {
    let Some(Value::Array(classes)) = fields.get("architectures") else {
        return Ok(());
    };
    for class in classes.iter().filter_map(Value::as_str) {
        if !supported.contains(&class) {
            return Err(fields.unsupported("architectures", class, &supported.join(", ")));
        }
    }
    Ok(())
}
