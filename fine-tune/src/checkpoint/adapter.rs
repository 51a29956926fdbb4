//! LoRA adapters as PEFT writes them, merged into weights as these are read: `W + scale · B · A`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{self, Mapped, SETTINGS_LIMIT};
use super::safetensors::{self, Entry};
use super::stored::{Layout, Stored};
use super::{Tensor, names};
use crate::architecture::{Architecture, DecoderFamily};
use crate::error::{Error, Result};
use furlong_runtime::{PeftFault, PeftSettings};

mod factors;

pub use factors::Factors;

/// Name of the file of settings in a PEFT folder.
pub const CONFIG: &str = "adapter_config.json";
/// Name of the file of weights in a PEFT folder.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// What of an adapter can be merged.
const CHANGES: &str = "low-rank changes of weight matrices, with plain names for modules, that leave the base weights alone: \
                       convert the adapter to plain LoRA when saving it";

/// An adapter whose tensors all belong to one architecture.
#[derive(Debug)]
pub struct Adapter {
    name: String,
    settings: PeftSettings,
    file: Mapped,
    /// By name of the weight they change.
    deltas: BTreeMap<String, Delta>,
}

/// What an adapter adds to one weight.
#[derive(Debug)]
struct Delta {
    /// `[rank, in]`
    a: Entry,
    /// `[out, rank]`
    b: Entry,
    /// DoRA's length of each output row, `[out]`.
    magnitude: Option<Entry>,
    /// The weight it was trained on, which PEFT saves along with embeddings and heads; it takes the place of the checkpoint's.
    base: Option<Entry>,
    rank: usize,
    scale: f32,
    /// Whether the weight is stored as `[in, out]`.
    input_first: bool,
}

/// The tensors of one adapted module, as they are found.
#[derive(Default)]
struct Parts {
    a: Option<Entry>,
    b: Option<Entry>,
    magnitude: Option<Entry>,
    base: Option<Entry>,
    embedding: bool,
}

impl Adapter {
    /// Opens a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`) for a model of `architecture`.
    ///
    /// # Errors
    /// When the adapter isn't LoRA, or asks for what merging can't do (biases, replaced modules, changed base weights).
    pub fn open(folder: &Path, architecture: &Architecture) -> Result<Adapter> {
        let path = folder.join(CONFIG);
        let config = files::text(folder, CONFIG, SETTINGS_LIMIT)?.ok_or_else(|| {
            Error::adapter(&path, "file", "there is none, and a PEFT folder has one")
        })?;
        let settings = PeftSettings::parse(&config).map_err(|fault| match fault {
            PeftFault::Invalid { place, reason } => Error::malformed(&path, place, reason),
            PeftFault::Unsupported { field, value } => {
                Error::unsupported(&path, field, value, CHANGES)
            }
        })?;
        let weights = files::inside(folder, WEIGHTS)?.ok_or_else(|| {
            Error::adapter(
                &folder.join(WEIGHTS),
                "file",
                "there is none; save the adapter as safetensors",
            )
        })?;
        let file = Mapped::open(&weights)?;
        let entries = safetensors::parse(file.bytes()).map_err(|fault| fault.in_file(&weights))?;
        let mut modules: BTreeMap<String, Parts> = BTreeMap::new();
        for (name, entry) in entries {
            let refuse = |reason: &str| Error::adapter(&weights, format!("tensor {name}"), reason);
            let (module, part) =
                split(&name).ok_or_else(|| refuse("not a tensor of a LoRA adapter"))?;
            let parts = modules.entry(module).or_default();
            let place = match part {
                Part::A { embedding } => {
                    parts.embedding |= embedding;
                    &mut parts.a
                }
                Part::B => &mut parts.b,
                Part::Magnitude => &mut parts.magnitude,
                Part::Base => &mut parts.base,
            };
            if place.replace(entry).is_some() {
                return Err(refuse("there are two of it"));
            }
        }
        let mut deltas = BTreeMap::new();
        for (module, parts) in modules {
            let delta = parts.into_delta(&weights, &module, &settings, architecture)?;
            let name = names::canonical(architecture, &format!("{module}.weight"));
            if deltas.insert(name, delta).is_some() {
                return Err(Error::adapter(
                    &weights,
                    format!("module {module}"),
                    "it is there twice",
                ));
            }
        }
        if deltas.is_empty() {
            return Err(Error::adapter(&weights, "tensors", "there are none"));
        }
        Ok(Adapter {
            name: folder_name(folder),
            settings,
            file,
            deltas,
        })
    }

    /// The adapter's name: its folder's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The base model that the adapter says it was trained on.
    pub fn base(&self) -> Option<&str> {
        self.settings.base()
    }

    /// `sha256:` and the digest of the adapter's weight file.
    pub fn digest(&self) -> String {
        files::digest([self.file.bytes()])
    }

    /// The weights that the adapter changes.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.deltas.keys().map(String::as_str)
    }

    /// Its settings.
    pub fn settings(&self) -> &PeftSettings {
        &self.settings
    }

    /// Whether the adapter brings a base weight of its own for the weight of that name.
    pub fn replaces_base(&self, weight: &str) -> bool {
        self.deltas
            .get(weight)
            .is_some_and(|delta| delta.base.is_some())
    }

    /// What it adds to the weight of that name: `A` of `[rank, in]`, `B` of `[out, rank]`, and DoRA's magnitude of `[out]`.
    ///
    /// # Errors
    /// When a tensor is stored in a format that isn't ours.
    pub fn tensors(&self, weight: &str) -> Result<[Option<Tensor>; 3]> {
        let Some(delta) = self.deltas.get(weight) else {
            return Ok([None, None, None]);
        };
        let read = |entry: &Entry| stored(entry).read(&self.file, weight, &entry.shape);
        Ok([
            Some(read(&delta.a)?),
            Some(read(&delta.b)?),
            delta.magnitude.as_ref().map(read).transpose()?,
        ])
    }

    /// Whether merging makes head and embedding of a tied model two matrices.
    pub(super) fn unties(&self, architecture: &Architecture) -> bool {
        let tied = matches!(architecture, Architecture::Decoder(config) if config.tied_embeddings);
        tied && ["lm_head.weight", names::embedding(architecture)]
            .iter()
            .any(|name| self.deltas.contains_key(*name))
    }

    /// Checks each change against the weight it is for, of those in `shapes`.
    pub(super) fn check(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<()> {
        let path = self.file.path();
        for (name, delta) in &self.deltas {
            let shape = shapes.get(name).ok_or_else(|| {
                Error::adapter(
                    path,
                    format!("weight {name}"),
                    "the base model has none of that name",
                )
            })?;
            let (out, input) = match shape[..] {
                [input, out] if delta.input_first => (out, input),
                [out, input] => (out, input),
                _ => {
                    let reason = format!("its shape is {shape:?}, and LoRA changes matrices only");
                    return Err(Error::adapter(path, format!("weight {name}"), reason));
                }
            };
            stored(&delta.a).check(path, &format!("A of {name}"), &[delta.rank, input])?;
            stored(&delta.b).check(path, &format!("B of {name}"), &[out, delta.rank])?;
            if let Some(base) = &delta.base {
                stored(base).check(path, &format!("base of {name}"), shape)?;
            }
            if let Some(magnitude) = &delta.magnitude {
                stored(magnitude).check(path, &format!("magnitude of {name}"), &[out])?;
            }
        }
        Ok(())
    }

    /// Merges the change of weight `name` into `weight`, if there is one.
    pub(super) fn merge(&self, name: &str, weight: &mut Tensor) -> Result<()> {
        let Some(delta) = self.deltas.get(name) else {
            return Ok(());
        };
        let read = |entry: &Entry| stored(entry).read(&self.file, name, &entry.shape);
        let (a, b) = (read(&delta.a)?, read(&delta.b)?);
        let magnitude = delta.magnitude.as_ref().map(read).transpose()?;
        let base = delta.base.as_ref().map(read).transpose()?;
        let nothing = Tensor {
            shape: Vec::new(),
            data: Vec::new(),
        };
        let mut matrix = base.unwrap_or_else(|| std::mem::replace(weight, nothing));
        if delta.input_first {
            matrix = matrix.transposed();
        }
        let input = matrix.shape.last().copied().unwrap_or(1).max(1);
        let rank = delta.rank.max(1);
        let mut change = vec![0f32; input];
        for (o, (row, b)) in matrix
            .data
            .chunks_mut(input)
            .zip(b.data.chunks(rank))
            .enumerate()
        {
            change.fill(0.0);
            for (b, a) in b.iter().zip(a.data.chunks(input)) {
                change.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * a);
            }
            row.iter_mut()
                .zip(&change)
                .for_each(|(w, change)| *w += delta.scale * change);
            if let Some(length) = magnitude.as_ref().and_then(|m| m.data.get(o)) {
                let norm = row
                    .iter()
                    .map(|w| f64::from(*w).powi(2))
                    .sum::<f64>()
                    .sqrt();
                let factor = (f64::from(*length) / norm) as f32;
                row.iter_mut().for_each(|w| *w *= factor);
            }
        }
        *weight = if delta.input_first {
            matrix.transposed()
        } else {
            matrix
        };
        Ok(())
    }
}

impl Parts {
    fn into_delta(
        self,
        path: &Path,
        module: &str,
        settings: &PeftSettings,
        architecture: &Architecture,
    ) -> Result<Delta> {
        let refuse = |reason: &str| Error::adapter(path, format!("module {module}"), reason);
        let a = self.a.ok_or_else(|| refuse("its A is missing"))?;
        let b = self.b.ok_or_else(|| refuse("its B is missing"))?;
        let rank = a.shape.first().copied().unwrap_or(0);
        let wanted = settings.rank_of(module);
        if rank != wanted || rank == 0 {
            return Err(refuse(&format!(
                "A has {rank} rows, and the config's rank is {wanted}"
            )));
        }
        if settings.is_dora() != self.magnitude.is_some() {
            return Err(refuse(
                "its magnitude and the config's use_dora contradict each other",
            ));
        }
        if self.embedding && self.magnitude.is_some() {
            return Err(refuse("DoRA on an embedding is not supported"));
        }
        let conv1d = matches!(architecture, Architecture::Decoder(config) if config.family == DecoderFamily::Gpt2)
            && module != "lm_head";
        Ok(Delta {
            a,
            b,
            magnitude: self.magnitude,
            base: self.base,
            rank,
            scale: settings.scale_of(module),
            input_first: conv1d || self.embedding,
        })
    }
}

/// Which of a module's tensors.
enum Part {
    A { embedding: bool },
    B,
    Magnitude,
    Base,
}

/// `base_model.model.MODULE.lora_A.weight` and its like, as module and part.
fn split(name: &str) -> Option<(String, Part)> {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let name = name.strip_suffix(".default").unwrap_or(name);
    let (module, part) = name.rsplit_once('.')?;
    let part = match part {
        "lora_A" => Part::A { embedding: false },
        "lora_embedding_A" => Part::A { embedding: true },
        "lora_B" | "lora_embedding_B" => Part::B,
        "lora_magnitude_vector" => Part::Magnitude,
        "base_layer" => Part::Base,
        _ => return None,
    };
    Some((module.to_owned(), part))
}

fn stored(entry: &Entry) -> Stored {
    Stored {
        file: 0,
        elements: entry.elements.clone(),
        shape: entry.shape.clone(),
        range: entry.range.clone(),
        layout: Layout::Same,
    }
}

fn folder_name(folder: &Path) -> String {
    let folder: PathBuf = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().map_or_else(
        || "adapter".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
