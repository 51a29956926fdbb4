//! Adapters that are kept: slots in the graph, and the adapters beside it in `adapters/`, in two formats.
//!
//! `adapters/NAME/` is the PEFT folder as it was, which `furlong run --adapter NAME` loads; `adapters/NAME.onnx_adapter` has the
//! same matrices under the names of the graph's inputs, for ONNX Runtime.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::onnx_adapter::{self, Parameter};
use super::write;
use crate::architecture::Architecture;
use crate::checkpoint::{Checkpoint, Factors};
use crate::error::{Error, Result};
use crate::graph::{Slots, input_names};

/// Folder of a model folder that holds adapters.
pub const FOLDER: &str = "adapters";

/// The files of a PEFT folder.
const PEFT_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Adapters that fit the model that is exported.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<Adapter>);

#[derive(Debug)]
struct Adapter {
    name: String,
    digest: String,
    folder: PathBuf,
    factors: Vec<Factors>,
}

impl Kept {
    /// Opens the PEFT folders `folders` for `checkpoint`.
    ///
    /// # Errors
    /// One that doesn't fit or can't be kept, two of one name, and a model that isn't a decoder.
    pub(super) fn open(folders: &[PathBuf], checkpoint: &Checkpoint) -> Result<Kept> {
        let mut kept = Kept::default();
        for folder in folders {
            if let Architecture::Encoder(_) = checkpoint.architecture() {
                let reason = "adapters are kept beside decoders only; merge it instead";
                return Err(Error::adapter(folder, "model", reason));
            }
            let adapter = checkpoint.open_adapter(folder)?;
            if kept.0.iter().any(|other| other.name == adapter.name()) {
                let reason = "two adapters have folders of this name; rename one";
                return Err(Error::adapter(folder, adapter.name(), reason));
            }
            kept.0.push(Adapter {
                name: adapter.name().to_owned(),
                digest: adapter.digest(),
                folder: folder.clone(),
                factors: adapter.factors(checkpoint.architecture())?,
            });
        }
        Ok(kept)
    }

    /// The slots that all of them need.
    pub(super) fn slots(&self) -> Slots {
        let factors = self.0.iter().flat_map(|adapter| &adapter.factors);
        let outer = |shape: &[usize], index: usize| shape.get(index).copied().unwrap_or(0);
        factors
            .map(|factors| {
                let sizes = (outer(&factors.a.shape, 0), outer(&factors.b.shape, 1));
                (factors.module.clone(), sizes)
            })
            .collect()
    }

    /// What the model's metadata says of them; nothing if there are none.
    pub(super) fn metadata(&self) -> Option<String> {
        let entry = |adapter: &Adapter| json!({ "name": adapter.name, "digest": adapter.digest });
        let all: Vec<Value> = self.0.iter().map(entry).collect();
        (!all.is_empty()).then(|| Value::from(all).to_string())
    }

    /// Writes them into the model folder `model`; returns the names of the files there.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub(super) fn write(&self, model: &Path) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for adapter in &self.0 {
            let folder = Path::new(FOLDER).join(&adapter.name);
            std::fs::create_dir_all(model.join(&folder)).map_err(Error::io(model))?;
            for name in PEFT_FILES {
                let from = adapter.folder.join(name);
                std::fs::copy(&from, model.join(&folder).join(name)).map_err(Error::io(&from))?;
                files.push(folder.join(name).display().to_string());
            }
            let name = format!("{}.onnx_adapter", folder.display());
            let path = model.join(&name);
            write(&path, &encode(adapter, &path)?)?;
            files.push(name);
        }
        Ok(files)
    }
}

fn encode(adapter: &Adapter, path: &Path) -> Result<Vec<u8>> {
    let names: Vec<[String; 2]> = (adapter.factors.iter())
        .map(|factors| input_names(&factors.module))
        .collect();
    let mut parameters = Vec::new();
    for (factors, names) in adapter.factors.iter().zip(&names) {
        for (tensor, name) in [&factors.a, &factors.b].into_iter().zip(names) {
            let [rows, columns] = tensor.shape[..] else {
                return Err(Error::adapter(path, name, "not a matrix"));
            };
            parameters.push(Parameter {
                name,
                dims: [rows, columns],
                values: &tensor.data,
            });
        }
    }
    onnx_adapter::encode(&parameters, path)
}
