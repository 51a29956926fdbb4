//! Parameters as files: safetensors, and the Hugging Face folder around them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::{Value, json};

use super::parameters::numbers;
use super::{Model, Parameter, ParameterId};
use crate::architecture::{Architecture, EncoderConfig, Pooling};
use crate::checkpoint::Sidecars;
use crate::error::{Error, Result};
use crate::train::layers::Linear;

/// Name of the weight file.
const WEIGHTS: &str = "model.safetensors";
/// Name of the folder with the pooling's config.
const POOLING_FOLDER: &str = "1_Pooling";

impl Model {
    /// Writes the weights, an adapter merged into them, as a Hugging Face folder with the given text files: what `fine-tune export`
    /// and transformers read. The folder must be there.
    ///
    /// # Errors
    /// When `sidecars` has no valid config, or the operating system refuses.
    pub fn write_checkpoint(&self, folder: &Path, sidecars: &Sidecars) -> Result<()> {
        for (name, text) in sidecars.files() {
            let path = folder.join(name);
            if name == "config.json" {
                let mut config: Value = serde_json::from_str(text)
                    .map_err(|error| Error::malformed(&path, "config", error.to_string()))?;
                if let Some(fields) = config.as_object_mut() {
                    fields.remove("torch_dtype");
                    fields.insert("dtype".to_owned(), "float32".into());
                }
                write_text(&path, &format!("{config:#}\n"))?;
            } else {
                write_text(&path, text)?;
            }
        }
        if let Architecture::Encoder(config) = self.architecture() {
            write_modules(folder, config)?;
        }
        let blocks = self.body.blocks.iter();
        let adapted: BTreeMap<ParameterId, &Linear> = blocks
            .flat_map(|block| block.linears())
            .filter(|linear| linear.adapter.is_some())
            .map(|linear| (linear.weight, linear))
            .collect();
        let classifier = self.body.classifier.is_some();
        let weights = self
            .parameters()
            .iter()
            .filter(|(_, parameter)| !parameter.role().is_adapter())
            .map(|(id, parameter)| {
                let name = parameter.name();
                let named = if classifier && !name.starts_with("classifier.") {
                    format!("bert.{name}")
                } else {
                    name.to_owned()
                };
                let value = adapted
                    .get(&id)
                    .map(|linear| linear.merged(self.parameters()));
                (named, Stored { parameter, value })
            });
        write_tensors(&folder.join(WEIGHTS), weights)
    }
}

/// Writes how an encoder's sentence embedding is made, as sentence-transformers reads it.
fn write_modules(folder: &Path, config: &EncoderConfig) -> Result<()> {
    let mode = match config.pooling {
        Pooling::None => return Ok(()),
        Pooling::Mean => "mean_tokens",
        Pooling::Cls => "cls_token",
        Pooling::Max => "max_tokens",
    };
    let module = |index: usize, path: &str, kind: &str| {
        json!({
            "idx": index,
            "name": index.to_string(),
            "path": path,
            "type": format!("sentence_transformers.models.{kind}"),
        })
    };
    let mut modules = vec![
        module(0, "", "Transformer"),
        module(1, POOLING_FOLDER, "Pooling"),
    ];
    if config.normalise {
        modules.push(module(2, "2_Normalize", "Normalize"));
    }
    let mut pooling = json!({ "word_embedding_dimension": config.hidden_size });
    for name in ["cls_token", "mean_tokens", "max_tokens"] {
        pooling[format!("pooling_mode_{name}")] = Value::Bool(name == mode);
    }
    let pooling_folder = folder.join(POOLING_FOLDER);
    std::fs::create_dir_all(&pooling_folder).map_err(Error::io(&pooling_folder))?;
    write_text(
        &pooling_folder.join("config.json"),
        &format!("{pooling:#}\n"),
    )?;
    write_text(
        &folder.join("modules.json"),
        &format!("{:#}\n", Value::Array(modules)),
    )
}

/// Writes a text file through to the disk.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path))?;
    synced(path)
}

/// Writes parameters under their names as safetensors, in f32, through to the disk; one is fetched from the device at a time. The file
/// of that name is replaced when the new one is complete.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    parameters: impl IntoIterator<Item = (String, Stored<'a>)>,
) -> Result<()> {
    // What transformers asks for before it reads a file.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let part = path.with_added_extension("part");
    serialize_to_file(parameters, Some(metadata), &part).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => Error::io(&part)(source),
        other => Error::training(part.display().to_string(), other.to_string()),
    })?;
    synced(&part)?;
    std::fs::rename(&part, path).map_err(Error::io(path))
}

fn synced(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}

/// A parameter on its way into a file, perhaps with another value than it has.
pub(crate) struct Stored<'a> {
    parameter: &'a Parameter,
    value: Option<Tensor<2>>,
}

impl<'a> Stored<'a> {
    /// A parameter as it is.
    pub(crate) fn new(parameter: &'a Parameter) -> Stored<'a> {
        Stored {
            parameter,
            value: None,
        }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.parameter.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let value = self.value.as_ref();
        let values = value
            .map_or_else(|| self.parameter.to_vec(), numbers)
            .into_iter();
        Cow::Owned(values.flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        self.parameter.shape().iter().product::<usize>() * size_of::<f32>()
    }
}
