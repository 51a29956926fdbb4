//! What is known about a model, as its cards say it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::record::Results;
use super::training::TrainingRecord;
use crate::checkpoint::{Mapped, digest};
use crate::error::{Error, Result};

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name.
    pub name: &'static str,
    /// Its length.
    pub bytes: u64,
    /// `sha256:` and its digest.
    pub digest: String,
}

impl ModelFile {
    /// The file of this name in `folder`; `None` when there is none.
    pub(super) fn of(folder: &Path, name: &'static str) -> Result<Option<ModelFile>> {
        let path = folder.join(name);
        if !path.try_exists().map_err(Error::io(&path))? {
            return Ok(None);
        }
        let file = Mapped::open(&path)?;
        Ok(Some(ModelFile {
            name,
            bytes: file.bytes().len() as u64,
            digest: digest([file.bytes()]),
        }))
    }
}

/// What a model is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// It goes on with a text.
    Generation,
    /// It makes embeddings.
    Embedding,
    /// It tells which of these labels a text has.
    Classification(Vec<String>),
}

impl Task {
    /// Hugging Face's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Task::Generation => "text-generation",
            Task::Embedding => "feature-extraction",
            Task::Classification(_) => "text-classification",
        }
    }

    /// The command of `furlong` that it is used with.
    pub(super) fn command(&self) -> &'static str {
        match self {
            Task::Generation => "run",
            Task::Embedding => "embed",
            Task::Classification(_) => "classify",
        }
    }
}

/// What is known about a model.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub task: Task,
    /// Hugging Face's `model_type`.
    pub architecture: String,
    /// The most tokens it takes.
    pub context_length: String,
    /// How many weights it has.
    pub parameters: Option<u64>,
    /// `f32`, `f16`, `q8` or `q4`.
    pub weights: String,
    /// How the weights were rounded: JSON of the recipe.
    pub quantisation: Option<Value>,
    /// The base model's name.
    pub base: String,
    /// `sha256:` and the digest of the base model's weights.
    pub base_digest: String,
    /// Name and digest of the adapter that was merged.
    pub adapter: Option<(String, String)>,
    /// How the base or the adapter was trained, if our tool did it.
    pub training: Option<TrainingRecord>,
    /// The licence, usually an SPDX identifier in lower case.
    pub licence: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The version of the tool that made it.
    pub version: String,
    /// Its files.
    pub files: Vec<ModelFile>,
    /// How good it is, if that was recorded.
    pub results: Option<Results>,
}

impl Facts {
    /// What the metadata of a model says. What it doesn't say is empty.
    pub(super) fn new(metadata: &BTreeMap<String, String>, files: Vec<ModelFile>) -> Facts {
        let get = |key: &str| metadata.get(&format!("furlong.{key}")).cloned();
        let text = |key: &str| get(key).unwrap_or_default();
        let json = |key: &str| get(key).and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let adapter = json("adapter").map(|adapter| {
            let field = |name: &str| {
                adapter
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            (field("name"), field("digest"))
        });
        let (base, weights) = (text("base_model"), text("weights"));
        let tuned = adapter
            .as_ref()
            .map_or(String::new(), |(name, _)| format!("-{name}"));
        let labels = json("labels").and_then(|value| serde_json::from_value(value).ok());
        let task = match labels {
            Some(labels) => Task::Classification(labels),
            None if text("kind") == "decoder" => Task::Generation,
            None => Task::Embedding,
        };
        Facts {
            name: format!("{base}{tuned}-{weights}"),
            task,
            architecture: text("architecture"),
            context_length: text("context_length"),
            parameters: get("parameters").and_then(|count| count.parse().ok()),
            weights,
            quantisation: json("quantisation"),
            base,
            base_digest: text("base_digest"),
            adapter,
            training: json("training").and_then(|value| serde_json::from_value(value).ok()),
            licence: get("license"),
            tags: text("tags")
                .split(',')
                .filter(|tag| !tag.is_empty())
                .map(str::to_owned)
                .collect(),
            version: text("version"),
            files,
            results: get("evaluation").and_then(|text| serde_json::from_str(&text).ok()),
        }
    }

    /// One sentence about the model.
    pub(super) fn description(&self) -> String {
        let kind = match &self.task {
            Task::Generation => "generates text".to_owned(),
            Task::Embedding => "turns text into embeddings".to_owned(),
            Task::Classification(labels) => {
                format!("tells which of {} labels a text has", labels.len())
            }
        };
        let tuned = match &self.adapter {
            Some((name, _)) => format!(", tuned with the adapter {name}"),
            None => String::new(),
        };
        format!(
            "{} as ONNX with {} weights{tuned}: a {} model that {kind}.",
            self.base, self.weights, self.architecture
        )
    }
}
