//! A tokenizer rebuilt from GGUF metadata, in the files that the `tokenizers` library and Hugging Face read.
//!
//! GGUF keeps a vocabulary, merges or scores, and the name of a pre-tokenizer; the rest (regular expressions, normalisation,
//! decoding) is what the models of that name have in their own `tokenizer.json`.

mod byte_level;
mod sentence_piece;
mod special;
mod vocabulary;
mod word_piece;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json, json};

use crate::checkpoint::gguf::{Gguf, Value};
use crate::error::Fault;
use special::Special;
use vocabulary::Vocabulary;

/// A rebuilt tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenizer {
    /// `tokenizer.json`
    pub tokenizer: Json,
    /// `tokenizer_config.json`: special tokens by their text, and the chat template.
    pub tokenizer_config: Json,
    /// `bos_token_id`, `eos_token_id` and `pad_token_id`, as far as they are known: the fields of `generation_config.json`.
    pub ids: Map<String, Json>,
}

/// Rebuilds the tokenizer of a GGUF file; `None` where the file has none.
///
/// # Errors
/// When the kind of tokenizer is unknown, or its tables are inconsistent.
pub fn rebuild(gguf: &Gguf) -> Result<Option<Tokenizer>, Fault> {
    let keys = Keys { gguf };
    let kind = match keys.text("ggml.model")? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some(kind) => kind,
    };
    let vocabulary = Vocabulary::read(&keys)?;
    let special = Special::read(&keys, &vocabulary, kind)?;
    let mut tokenizer = match keys.text("huggingface.json")? {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Fault::new("tokenizer.huggingface.json", error.to_string()))?,
        None => match kind {
            "gpt2" => byte_level::build(&keys, &vocabulary, &special)?,
            "llama" => sentence_piece::build(&keys, &vocabulary, &special)?,
            "bert" => word_piece::build(&keys, &vocabulary, &special)?,
            other => {
                return Err(Fault::unsupported(
                    "tokenizer.ggml.model",
                    other,
                    "gpt2, llama, bert",
                ));
            }
        },
    };
    if let Some(map) = tokenizer.as_object_mut()
        && !map.contains_key("added_tokens")
    {
        map.insert("added_tokens".to_owned(), vocabulary.added_tokens());
    }
    Ok(Some(Tokenizer {
        tokenizer,
        tokenizer_config: special.config(&keys, &vocabulary, kind)?,
        ids: special.ids(),
    }))
}

/// The metadata under `tokenizer.`.
struct Keys<'a> {
    gguf: &'a Gguf<'a>,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.gguf.metadata.get(format!("tokenizer.{key}").as_str())
    }

    /// `general.architecture`, or nothing.
    fn architecture(&self) -> &'a str {
        self.gguf
            .metadata
            .get("general.architecture")
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        self.get(key)
            .map(|value| {
                read(value)
                    .ok_or_else(|| Fault::new(format!("tokenizer.{key}"), format!("not {wanted}")))
            })
            .transpose()
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, Fault> {
        self.typed(key, "a text", Value::as_str)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        self.typed(key, "a truth value", Value::as_bool)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Fault> {
        self.typed(key, "a whole number", Value::as_u64)
    }
}

/// The frame of a `tokenizer.json`.
fn frame(
    normalizer: Json,
    pre_tokenizer: Json,
    post_processor: Json,
    decoder: Json,
    model: Json,
) -> Json {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    })
}
