//! GGUF files: the container, and what llama.cpp's converter put into it.

mod config;
mod names;
mod reader;
mod rope;
mod value;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

pub use reader::{Gguf, TensorEntry, parse};
pub use value::{Array, Kind, Value};

use super::files::Mapped;
use super::stored::Stored;
use super::{Checkpoint, Sidecars, sidecars};
use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::tokenizer;
use config::Keys;

/// Tensors that are turned into settings of the config.
const SETTINGS: &[&str] = &["rope_freqs.weight"];

/// Opens a GGUF file.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let file = Mapped::open(path)?;
    let (name, licence, architecture, sidecars, stored) = read(path, file.bytes())?;
    Checkpoint::new(
        path,
        name,
        licence,
        architecture,
        sidecars,
        vec![file],
        stored,
    )
}

type Parts = (
    String,
    Option<String>,
    Architecture,
    Sidecars,
    BTreeMap<String, Stored>,
);

fn read(path: &Path, bytes: &[u8]) -> Result<Parts> {
    let gguf = parse(bytes).map_err(|fault| fault.in_file(path))?;
    let keys = Keys::new(path, bytes, &gguf)?;
    let tokenizer = tokenizer::rebuild(&gguf).map_err(|fault| fault.in_file(path))?;
    let ids = tokenizer
        .as_ref()
        .map(|tokenizer| tokenizer.ids.clone())
        .unwrap_or_default();
    let config = keys.config(ids)?;
    let architecture = Architecture::from_config(path, &config, keys.sentence_head()?)?;
    let tokens = gguf
        .metadata
        .get("tokenizer.ggml.tokens")
        .and_then(Value::as_array)
        .map_or(0, |tokens| tokens.len());
    if tokens > architecture.vocab_size() {
        let reason = format!(
            "{tokens} tokens, but the embedding has {} rows",
            architecture.vocab_size()
        );
        return Err(Error::malformed(path, "tokenizer.ggml.tokens", reason));
    }
    let (heads, kv_heads) = match &architecture {
        Architecture::Decoder(config) => (config.heads, config.kv_heads),
        Architecture::Encoder(config) => (config.heads, config.heads),
    };
    let mut stored = BTreeMap::new();
    for (name, entry) in &gguf.tensors {
        if SETTINGS.contains(name) {
            continue;
        }
        let (canonical, layout) = names::hugging_face(keys.architecture, name, heads, kv_heads)
            .ok_or_else(|| {
                let supported = format!("the tensors of a dense {} model", keys.architecture);
                Error::unsupported(path, format!("tensor {name}"), "present", supported)
            })?;
        let tensor = Stored {
            file: 0,
            elements: entry.elements.clone(),
            shape: entry.shape.clone(),
            range: entry.range.clone(),
            layout,
        };
        if stored.insert(canonical, tensor).is_some() {
            return Err(Error::malformed(
                path,
                format!("tensor {name}"),
                "there are two of it",
            ));
        }
    }
    let text = |key: &str| Some(gguf.metadata.get(key)?.as_str()?.to_owned());
    let name = text("general.name").or_else(|| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    });
    let (tokenizer, tokenizer_config) =
        tokenizer.map(|t| (t.tokenizer, t.tokenizer_config)).unzip();
    let sidecars = Sidecars {
        generation_config: sidecars::generation_config(&config),
        config: sidecars::pretty(&config),
        tokenizer: tokenizer.map(|json| json.to_string()),
        tokenizer_config: tokenizer_config.map(|json| sidecars::pretty(&json)),
    };
    let name = name.unwrap_or_else(|| "model".to_owned());
    Ok((
        name,
        text("general.license"),
        architecture,
        sidecars,
        stored,
    ))
}
