//! What a run starts from: a checkpoint, or an architecture and a tokenizer.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use furlong_runtime::text::{ChatTemplate, Tokenizer};
use serde_json::Value;

use super::layer_list::LayerList;
use super::settings::{DataSettings, Method, MethodSettings, Settings};
use crate::architecture::Architecture;
use crate::architecture::config::{SentenceHead, set_labels};
use crate::checkpoint::{Adapter, Checkpoint, Sidecars, digest};
use crate::error::{Error, Result};
use crate::train::adapter::AdapterSettings;
use crate::train::model::{Model, ModelOptions};

/// What a run starts from.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    /// The adapter that is gone on with.
    adapter: Option<Adapter>,
    /// The text files that belong to the model.
    pub sidecars: Sidecars,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template, if it has one.
    pub template: Option<ChatTemplate>,
}

#[derive(Debug)]
enum Kind {
    Checkpoint(Box<Checkpoint>),
    Scratch {
        path: PathBuf,
        architecture: Architecture,
    },
}

/// The largest text file beside a model, in bytes.
const LIMIT: u64 = 256 << 20;
/// The files that a tokenizer may have beside it.
const BESIDE: [&str; 3] = [
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
];

impl Source {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// When they name nothing, or a file can't be read or is of no use.
    pub fn open(settings: &Settings) -> Result<Source> {
        let data = &settings.data;
        let mut source = Source::of_model(data)?;
        if let (Some(folder), Kind::Checkpoint(base)) = (&data.adapter, &source.kind) {
            if settings.method() != Method::Lora {
                return Err(Error::training(
                    "setting adapter",
                    "with --method full there is none to go on with; merge it into the base by `fine-tune export`, or leave --method out",
                ));
            }
            source.adapter = Some(Adapter::open(folder, base.architecture())?);
        }
        Ok(source)
    }

    fn of_model(data: &DataSettings) -> Result<Source> {
        match (&data.base, &data.architecture, &data.tokenizer) {
            (Some(base), None, None) => {
                let checkpoint = Checkpoint::open(base)?;
                let sidecars = checkpoint.sidecars().clone();
                Source::with(Kind::Checkpoint(Box::new(checkpoint)), sidecars)
            }
            (None, Some(path), Some(tokenizer)) => {
                let text = read(path)?;
                let config: Value = serde_json::from_str(&text)
                    .map_err(|error| Error::malformed(path, "JSON", error.to_string()))?;
                let architecture = Architecture::from_config(path, &config, SentenceHead::NONE)?;
                let sidecars = gather(tokenizer, &config)?;
                let path = path.clone();
                Source::with(Kind::Scratch { path, architecture }, sidecars)
            }
            _ => Err(Error::training(
                "the model",
                "give --base FOLDER, or --architecture config.json and --tokenizer tokenizer.json for a new one",
            )),
        }
    }

    /// Tokenizer and template are loaded from a folder, as `furlong` will load them.
    fn with(kind: Kind, sidecars: Sidecars) -> Result<Source> {
        let folder = temporary()?;
        for (name, text) in sidecars.files() {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map_err(Error::io(&path))?;
        }
        Ok(Source {
            kind,
            adapter: None,
            tokenizer: Tokenizer::load(folder.path())?,
            template: ChatTemplate::load(folder.path())?,
            sidecars,
        })
    }

    /// Makes an encoder a classifier with these classes.
    ///
    /// # Errors
    /// When its config can't be changed.
    pub fn classify(&mut self, labels: &[String]) -> Result<()> {
        match &mut self.kind {
            Kind::Checkpoint(checkpoint) => {
                checkpoint.classify(labels)?;
                self.sidecars = checkpoint.sidecars().clone();
            }
            Kind::Scratch { path, architecture } => {
                let mut config: Value = serde_json::from_str(&self.sidecars.config)
                    .map_err(|error| Error::malformed(path, "JSON", error.to_string()))?;
                if let Some(fields) = config.as_object_mut() {
                    set_labels(fields, labels);
                }
                *architecture = Architecture::from_config(path, &config, SentenceHead::NONE)?;
                self.sidecars.config = format!("{config:#}\n");
            }
        }
        Ok(())
    }

    /// Puts an adapter's rank, scale and modules in the place of the settings'.
    ///
    /// # Errors
    /// When it has some that training doesn't do.
    pub fn settle(&self, method: &mut MethodSettings) -> Result<()> {
        if let Some(adapter) = &self.adapter {
            let of = AdapterSettings::of(adapter)?;
            method.rank = u32::try_from(of.r).unwrap_or(u32::MAX);
            method.alpha = of.lora_alpha;
            (method.rslora, method.dora) = (of.use_rslora, of.use_dora);
            method.target_modules = of.target_modules.join(",");
            method.layers = of.layers_to_transform.map(LayerList);
        }
        Ok(())
    }

    /// The model as types.
    pub fn architecture(&self) -> &Architecture {
        match &self.kind {
            Kind::Checkpoint(checkpoint) => checkpoint.architecture(),
            Kind::Scratch { architecture, .. } => architecture,
        }
    }

    /// The base model's name; for a new model where its config is.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Checkpoint(checkpoint) => checkpoint.name().to_owned(),
            Kind::Scratch { path, .. } => path.display().to_string(),
        }
    }

    /// `sha256:` and the digest of the base model's weights; for a new model of its config and tokenizer.
    pub fn digest(&self) -> String {
        match &self.kind {
            Kind::Checkpoint(checkpoint) => checkpoint.digest(),
            Kind::Scratch { .. } => {
                let (config, tokenizer) = (&self.sidecars.config, &self.sidecars.tokenizer);
                let tokenizer = tokenizer.as_deref().unwrap_or_default();
                digest([config.as_bytes(), tokenizer.as_bytes()])
            }
        }
    }

    /// The model that is to be trained, as it is before the first step.
    ///
    /// # Errors
    /// When it can't be trained in this way.
    pub fn model(&self, settings: &Settings, device: &Device) -> Result<Model> {
        let method = &settings.method;
        let adapter = (settings.method() == Method::Lora).then(|| AdapterSettings {
            r: method.rank as usize,
            lora_alpha: method.alpha,
            lora_dropout: method.adapter_dropout as f32,
            use_rslora: method.rslora,
            use_dora: method.dora,
            target_modules: method
                .target_modules
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            layers_to_transform: method.layers.as_ref().map(|layers| layers.0.clone()),
        });
        let options = ModelOptions {
            adapter,
            base_weights: method.base_weights.into(),
            block: method.block as usize,
            residual_dropout: method.residual_dropout as f32,
            attention_dropout: method.attention_dropout as f32,
            recompute: method.recompute,
            precision: method.precision,
            ..ModelOptions::default()
        };
        let seed = settings.run.seed;
        match &self.kind {
            Kind::Checkpoint(checkpoint) => {
                let mut model = Model::from_checkpoint(checkpoint, &options, seed, device)?;
                if let Some(adapter) = &self.adapter {
                    model.load_adapter(adapter)?;
                }
                Ok(model)
            }
            Kind::Scratch { architecture, .. } => {
                if options.adapter.is_some() {
                    return Err(Error::training(
                        "setting method",
                        "an adapter needs a base model: give --base, or --method full",
                    ));
                }
                Model::random(architecture, &options, seed, device)
            }
        }
    }
}

/// The files beside a new model's tokenizer, with `config`.
fn gather(tokenizer: &Path, config: &Value) -> Result<Sidecars> {
    let folder = temporary()?;
    let copy = |from: &Path, name: &str| {
        let to = folder.path().join(name);
        std::fs::write(&to, read(from)?).map_err(Error::io(&to))
    };
    copy(tokenizer, "tokenizer.json")?;
    for name in BESIDE {
        let path = tokenizer.with_file_name(name);
        if path.try_exists().map_err(Error::io(&path))? {
            copy(&path, name)?;
        }
    }
    Sidecars::read(folder.path(), config)
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(Error::io(&std::env::temp_dir()))
}

fn read(path: &Path) -> Result<String> {
    let length = path.metadata().map_err(Error::io(path))?.len();
    if length > LIMIT {
        return Err(Error::malformed(
            path,
            "file",
            "too large for a model's text file",
        ));
    }
    std::fs::read_to_string(path).map_err(Error::io(path))
}
