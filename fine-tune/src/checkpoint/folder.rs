//! A Hugging Face folder: `config.json`, and weights in one safetensors file or in shards that an index lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::files::{self, Mapped, SETTINGS_LIMIT, TABLE_LIMIT};
use super::stored::{Layout, Stored};
use super::{Checkpoint, Sidecars, licence, names, safetensors, sentence};
use crate::architecture::Architecture;
use crate::architecture::config::SentenceHead;
use crate::error::{Error, Result};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The most shards that are opened.
const MAX_SHARDS: usize = 4096;

pub fn open(folder: &Path) -> Result<Checkpoint> {
    let path = folder.join("config.json");
    let config = files::json(folder, "config.json", SETTINGS_LIMIT)?.ok_or_else(|| {
        Error::malformed(
            &path,
            "file",
            "there is none, and a Hugging Face folder has one",
        )
    })?;
    let head = match config.get("model_type").and_then(Value::as_str) {
        Some("bert") => sentence::read(folder)?,
        _ => SentenceHead::NONE,
    };
    let architecture = Architecture::from_config(&path, &config, head)?;
    let sidecars = Sidecars::read(folder, &config)?;
    let shards = shards(folder)?;
    let mut files = Vec::with_capacity(shards.len());
    let mut stored = BTreeMap::new();
    for (file, (shard, expected)) in shards.iter().enumerate() {
        let path = files::inside(folder, shard)?.ok_or_else(|| {
            Error::malformed(
                &folder.join(shard),
                "file",
                "there is none, though the index lists it",
            )
        })?;
        let mapped = Mapped::open(&path)?;
        let entries = safetensors::parse(mapped.bytes()).map_err(|fault| fault.in_file(&path))?;
        if let Some(name) = expected.iter().find(|name| !entries.contains_key(*name)) {
            let reason = format!("{INDEX} says it is here, and it is not");
            return Err(Error::malformed(&path, format!("tensor {name}"), reason));
        }
        for (name, entry) in entries {
            let tensor = Stored {
                file,
                elements: entry.elements,
                shape: entry.shape,
                range: entry.range,
                layout: Layout::Same,
            };
            if stored
                .insert(names::canonical(&architecture, &name), tensor)
                .is_some()
            {
                return Err(Error::malformed(
                    &path,
                    format!("tensor {name}"),
                    "there are two of it",
                ));
            }
        }
        files.push(mapped);
    }
    Checkpoint::new(
        folder,
        name(folder),
        licence::read(folder)?,
        architecture,
        sidecars,
        files,
        stored,
    )
}

/// The weight files by name, each with the tensors that the index says are in it.
fn shards(folder: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut shards = BTreeMap::new();
    if files::inside(folder, WEIGHTS)?.is_some() {
        shards.insert(WEIGHTS.to_owned(), BTreeSet::new());
        return Ok(shards);
    }
    let path = folder.join(INDEX);
    let Some(index) = files::json(folder, INDEX, TABLE_LIMIT)? else {
        return Err(Error::unsupported(
            folder,
            "format of the weights",
            "not safetensors",
            "model.safetensors, or shards of it with model.safetensors.index.json; convert other files with \
             save_pretrained(…, safe_serialization=True)",
        ));
    };
    let map = index
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| Error::malformed(&path, "weight_map", "there is no such object"))?;
    for (tensor, shard) in map {
        let shard = shard.as_str().ok_or_else(|| {
            Error::malformed(
                &path,
                format!("weight_map.{tensor}"),
                "not the name of a file",
            )
        })?;
        shards
            .entry(shard.to_owned())
            .or_insert_with(BTreeSet::new)
            .insert(tensor.clone());
        if shards.len() > MAX_SHARDS {
            let reason = format!("it lists more than {MAX_SHARDS} shards");
            return Err(Error::malformed(&path, "weight_map", reason));
        }
    }
    Ok(shards)
}

/// The model's name: the repository's in a Hugging Face cache, else the folder's.
fn name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let part = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let cached = folder
        .parent()
        .filter(|parent| parent.ends_with("snapshots"))
        .and_then(Path::parent)
        .and_then(part)
        .and_then(|name| {
            name.strip_prefix("models--")
                .map(|name| name.replacen("--", "/", 1))
        });
    cached
        .or_else(|| part(&folder))
        .unwrap_or_else(|| "model".to_owned())
}
