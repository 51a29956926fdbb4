//! GGUF files: the container, and what llama.cpp's converter put into it.

mod config;
mod names;
mod reader;
mod value;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

pub use reader::{Gguf, TensorEntry, parse};
pub use value::{Array, Kind, Value};

use super::files::Mapped;
use super::stored::Stored;
use super::{Checkpoint, Sidecars, sidecars};
use crate::architecture::Architecture;
use crate::error::{Error, Result};
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
    let config = keys.config(Map::<String, Json>::new())?;
    let architecture = Architecture::from_config(path, &config, keys.sentence_head()?)?;
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
    let sidecars = Sidecars {
        config: sidecars::pretty(&config),
        tokenizer: None,
        tokenizer_config: None,
        generation_config: None,
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
