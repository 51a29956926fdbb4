//! The text files that travel with a model: its config, tokenizer and generation settings.

use std::path::Path;

use serde_json::{Map, Value};

use super::files::{self, SETTINGS_LIMIT, TABLE_LIMIT};
use crate::error::{Error, Result};

/// Contents of the files beside an exported model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecars {
    /// `config.json`, in Hugging Face's fields.
    pub config: String,
    /// `tokenizer.json`, for the `tokenizers` library.
    pub tokenizer: Option<String>,
    /// `tokenizer_config.json`, with the chat template where there is one.
    pub tokenizer_config: Option<String>,
    /// `generation_config.json`, with the ids that begin, end and pad a text.
    pub generation_config: Option<String>,
}

impl Sidecars {
    /// File names and contents of what is there.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("config.json", Some(&self.config)),
            ("tokenizer.json", self.tokenizer.as_ref()),
            ("tokenizer_config.json", self.tokenizer_config.as_ref()),
            ("generation_config.json", self.generation_config.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?.as_str())))
    }

    /// The files of a Hugging Face folder whose `config.json` says `config`.
    pub(crate) fn read(folder: &Path, config: &Value) -> Result<Sidecars> {
        let tokenizer = files::text(folder, "tokenizer.json", TABLE_LIMIT)?;
        if let Some(text) = &tokenizer {
            files::parse_json(&folder.join("tokenizer.json"), text)?;
        }
        let generation = match files::json(folder, "generation_config.json", SETTINGS_LIMIT)? {
            Some(generation) => Some(pretty(&generation)),
            None => generation_config(config),
        };
        Ok(Sidecars {
            config: pretty(config),
            tokenizer,
            tokenizer_config: tokenizer_config(folder)?,
            generation_config: generation,
        })
    }

    /// Says in the config that head and embedding are two matrices.
    pub(super) fn untie(&mut self, path: &Path) -> Result<()> {
        let mut config = files::parse_json(&path.join("config.json"), &self.config)?;
        let map = config
            .as_object_mut()
            .ok_or_else(|| Error::malformed(path, "config.json", "not an object"))?;
        map.insert("tie_word_embeddings".to_owned(), Value::Bool(false));
        self.config = pretty(&config);
        Ok(())
    }
}

/// `tokenizer_config.json`, with a chat template that lies in a file of its own put in.
fn tokenizer_config(folder: &Path) -> Result<Option<String>> {
    let config = files::json(folder, "tokenizer_config.json", SETTINGS_LIMIT)?;
    let template = match files::text(folder, "chat_template.jinja", SETTINGS_LIMIT)? {
        Some(template) => Some(Value::String(template)),
        None => files::json(folder, "chat_template.json", SETTINGS_LIMIT)?
            .and_then(|file| file.get("chat_template").cloned()),
    };
    let mut config = match (config, &template) {
        (None, None) => return Ok(None),
        (None, Some(_)) => Map::new(),
        (Some(Value::Object(map)), _) => map,
        (Some(_), _) => {
            let path = folder.join("tokenizer_config.json");
            return Err(Error::malformed(&path, "first byte", "not a JSON object"));
        }
    };
    if let Some(template) = template {
        config.insert("chat_template".to_owned(), template);
    }
    Ok(Some(pretty(&Value::Object(config))))
}

/// What a config without a `generation_config.json` beside it says about the ids that begin, end and pad a text.
pub(super) fn generation_config(config: &Value) -> Option<String> {
    let ids: Map<String, Value> = ["bos_token_id", "eos_token_id", "pad_token_id"]
        .into_iter()
        .filter_map(|name| {
            Some((
                name.to_owned(),
                config.get(name).filter(|id| !id.is_null())?.clone(),
            ))
        })
        .collect();
    (!ids.is_empty()).then(|| pretty(&Value::Object(ids)))
}

/// `value` as it is written to a file.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
