//! Checkpoints, whatever they are stored as, under one naming: Hugging Face's.
//!
//! Opening one reads its config and the tables of its tensors, and checks that every tensor of the architecture is there with
//! its shape: what can be refused is refused before anything is written. Weights stay in the files until they are asked for,
//! one tensor at a time.

pub mod adapter;
mod elements;
pub(crate) mod files;
mod folder;
pub mod gguf;
mod licence;
mod names;
pub mod safetensors;
mod sentence;
mod sidecars;
mod stored;
mod tensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::architecture::config::{SentenceHead, set_labels};
use crate::architecture::{Architecture, TensorSpec};
use crate::error::{Error, Result};

pub use adapter::{Adapter, Factors};
pub use elements::Elements;
pub use files::{Mapped, digest};
pub use sidecars::Sidecars;
pub use tensor::Tensor;

use stored::Stored;

/// A checkpoint that fits an architecture we can export.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    name: String,
    licence: Option<String>,
    architecture: Architecture,
    sidecars: Sidecars,
    /// The weight files, in the order in which they are digested.
    files: Vec<Mapped>,
    /// What is stored, by Hugging Face name; more than the architecture needs.
    stored: BTreeMap<String, Stored>,
    /// What the architecture needs.
    shapes: BTreeMap<String, Vec<usize>>,
    adapter: Option<Adapter>,
}

impl Checkpoint {
    /// Opens a Hugging Face folder (`config.json` and `*.safetensors`) or a GGUF file.
    ///
    /// # Errors
    /// When the model is not supported, or the checkpoint is damaged or incomplete.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let metadata = path.metadata().map_err(Error::io(path))?;
        if metadata.is_dir() {
            folder::open(path)
        } else {
            gguf::open(path)
        }
    }

    /// Puts the parts together and checks that all tensors of the architecture are there.
    fn new(
        path: &Path,
        name: String,
        licence: Option<String>,
        architecture: Architecture,
        sidecars: Sidecars,
        files: Vec<Mapped>,
        stored: BTreeMap<String, Stored>,
    ) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint {
            path: path.to_owned(),
            name,
            licence,
            architecture,
            sidecars,
            files,
            stored,
            shapes: BTreeMap::new(),
            adapter: None,
        };
        for TensorSpec { name, shape } in checkpoint.architecture.tensors() {
            let stored = checkpoint.stored(&name)?;
            stored.check(checkpoint.path_of(stored), &name, &shape)?;
            checkpoint.shapes.insert(name, shape);
        }
        checkpoint.refuse_unknown()?;
        Ok(checkpoint)
    }

    /// Refuses tensors that take part in the model but not in the architecture, such as a bias the config doesn't speak of.
    fn refuse_unknown(&self) -> Result<()> {
        for (name, stored) in &self.stored {
            if !self.shapes.contains_key(name) && !names::is_spare(name) {
                return Err(Error::unsupported(
                    self.path_of(stored),
                    format!("tensor {name}"),
                    "present",
                    format!(
                        "the tensors of {}, which has none of that name",
                        self.architecture.model_type()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Reads a PEFT LoRA folder; from now on [`tensor`](Checkpoint::tensor) gives merged weights.
    ///
    /// Where the adapter changes a head or an embedding that the base model ties together, they are untied.
    ///
    /// # Errors
    /// When the adapter is of another kind, is damaged, or has a tensor that doesn't fit this checkpoint.
    pub fn merge_adapter(&mut self, folder: &Path) -> Result<()> {
        let adapter = Adapter::open(folder, &self.architecture)?;
        if adapter.unties(&self.architecture) {
            if let Architecture::Decoder(config) = &mut self.architecture {
                config.tied_embeddings = false;
            }
            let embedding = names::embedding(&self.architecture);
            let stored = self.stored(embedding)?.clone();
            let shape = self.shapes.get(embedding).cloned().unwrap_or_default();
            self.stored.insert("lm_head.weight".to_owned(), stored);
            self.shapes.insert("lm_head.weight".to_owned(), shape);
            self.sidecars.untie(&self.path)?;
        }
        adapter.check(&self.shapes)?;
        self.adapter = Some(adapter);
        Ok(())
    }

    /// Reads a PEFT LoRA folder that is to be kept beside this checkpoint, and checks that it fits. A tied head counts as one of
    /// its own.
    ///
    /// # Errors
    /// As [`Checkpoint::merge_adapter`].
    pub fn open_adapter(&self, folder: &Path) -> Result<Adapter> {
        let adapter = Adapter::open(folder, &self.architecture)?;
        let mut shapes = self.shapes.clone();
        if let Some(shape) = self.shapes.get(names::embedding(&self.architecture)) {
            shapes
                .entry("lm_head.weight".to_owned())
                .or_insert_with(|| shape.clone());
        }
        adapter.check(&shapes)?;
        Ok(adapter)
    }

    /// Makes an encoder tell what a text is, one of `labels`. A pooler that is stored is kept; what isn't stored of the head has to be
    /// made up: see [`is_stored`](Checkpoint::is_stored).
    ///
    /// # Errors
    /// When it is no encoder, or its config is no object.
    pub fn classify(&mut self, labels: &[String]) -> Result<()> {
        let path = self.path.join("config.json");
        let mut config = files::parse_json(&path, &self.sidecars.config)?;
        let fields = config
            .as_object_mut()
            .ok_or_else(|| Error::malformed(&path, "first byte", "not an object"))?;
        set_labels(fields, labels);
        self.architecture = Architecture::from_config(&path, &config, SentenceHead::NONE)?;
        for TensorSpec { name, shape } in self.architecture.tensors() {
            if let Some(stored) = self.stored.get(&name) {
                stored.check(self.path_of(stored), &name, &shape)?;
            }
            self.shapes.insert(name, shape);
        }
        self.sidecars.config = sidecars::pretty(&config);
        Ok(())
    }

    /// Whether the files hold a tensor of this name.
    pub fn is_stored(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    /// The model as types.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The folder or file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's name: what the file says, else the folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's licence where the checkpoint states it, usually as an SPDX identifier in lower case.
    pub fn licence(&self) -> Option<&str> {
        self.licence.as_deref()
    }

    /// The text files to be written beside the exported model.
    pub fn sidecars(&self) -> &Sidecars {
        &self.sidecars
    }

    /// The adapter that is merged, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// `sha256:` and the digest of the weight files, one after another in the order of their names. Reads them all.
    pub fn digest(&self) -> String {
        files::digest(self.files.iter().map(Mapped::bytes))
    }

    /// Whether the architecture has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// The format in which a tensor's elements are stored, if there is such a tensor.
    pub fn elements(&self, name: &str) -> Option<Elements> {
        self.stored
            .get(name)
            .and_then(|stored| stored.elements.clone().ok())
    }

    /// The tensor with this Hugging Face name, as f32 and with the adapter merged.
    ///
    /// Names carry the full model's prefix (`model.layers.0.…`, `transformer.h.0.…`, `encoder.layer.0.…`); shapes are those of
    /// [`Architecture::tensors`].
    ///
    /// # Errors
    /// When the architecture has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let shape = self.shapes.get(name).ok_or_else(|| self.missing(name))?;
        let stored = self.stored(name)?;
        let file = self
            .files
            .get(stored.file)
            .ok_or_else(|| self.missing(name))?;
        let mut tensor = stored.read(file, name, shape)?;
        if let Some(adapter) = &self.adapter {
            adapter.merge(name, &mut tensor)?;
        }
        Ok(tensor)
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.stored.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        }
    }

    fn path_of(&self, stored: &Stored) -> &Path {
        self.files.get(stored.file).map_or(&self.path, Mapped::path)
    }
}
