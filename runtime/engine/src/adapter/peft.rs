//! A PEFT folder: `adapter_config.json`, and the matrices in `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::config::{PeftFault, PeftSettings};
use crate::Error;
use crate::import::TensorBytes;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The longest `adapter_config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// An opened folder.
#[derive(Debug)]
pub(super) struct PeftFolder {
    folder: PathBuf,
    weights: PathBuf,
    settings: PeftSettings,
    bytes: TensorBytes,
}

/// One module that the adapter changes.
#[derive(Debug)]
pub(super) struct Module<'f> {
    /// As Hugging Face calls it.
    pub name: String,
    /// What the config says; A and B may contradict it.
    pub rank: usize,
    /// What `B · A` is multiplied by.
    pub scale: f32,
    /// `[rank, in]`.
    pub a: Matrix<'f>,
    /// `[out, rank]`.
    pub b: Matrix<'f>,
    /// The frozen weight that it was trained on, which PEFT saves along with heads. Training doesn't change it, so its
    /// shape is all that matters.
    pub base: Option<Matrix<'f>>,
}

/// A tensor of the file.
#[derive(Debug)]
pub(super) struct Matrix<'f>(TensorView<'f>);

impl Matrix<'_> {
    pub(super) fn shape(&self) -> &[usize] {
        self.0.shape()
    }
}

impl Module<'_> {
    /// Where it is, for messages.
    pub(super) fn place(&self) -> String {
        place_of(&self.name)
    }
}

/// An adapter that is more than what can be kept beside a model.
fn refuse_more(path: &Path, what: &dyn std::fmt::Display) -> Error {
    let merge = "merge it into the model instead: fine-tune export --adapter DIR";
    Error::unsupported(path, format!("{what}; {merge}"))
}

fn place_of(module: &str) -> String {
    format!("module {module}")
}

impl PeftFolder {
    /// Opens the two files of `folder`.
    ///
    /// # Errors
    /// What can't be opened, or is no LoRA adapter.
    pub(super) fn open(folder: &Path) -> Result<PeftFolder, Error> {
        let path = inside(folder, CONFIG)?;
        let io = |source| Error::io(&path, "read", source);
        let file = std::fs::File::open(&path).map_err(io)?;
        let mut text = String::new();
        file.take(MAX_CONFIG_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(io)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            let reason = format!("over {MAX_CONFIG_BYTES} bytes, the limit for such a file");
            return Err(Error::invalid(&path, "length", reason));
        }
        let settings = PeftSettings::parse(&text).map_err(|fault| match fault {
            PeftFault::Invalid { place, reason } => Error::invalid(&path, place, reason),
            more @ PeftFault::Unsupported { .. } => refuse_more(&path, &more),
        })?;
        if settings.is_dora() {
            return Err(refuse_more(&path, &"use_dora is true"));
        }
        let weights = inside(folder, WEIGHTS)?;
        let bytes = TensorBytes::map_file(&weights)?;
        Ok(PeftFolder {
            folder: folder.to_owned(),
            weights,
            settings,
            bytes,
        })
    }

    /// The folder's own name.
    pub(super) fn name(&self) -> String {
        let real = self.folder.canonicalize();
        let real = real.unwrap_or_else(|_| self.folder.clone());
        let name = real.file_name().map(|name| name.to_string_lossy());
        name.map_or_else(|| "adapter".to_owned(), |name| name.into_owned())
    }

    /// The base model that the config names.
    pub(super) fn base(&self) -> Option<&str> {
        self.settings.base()
    }

    /// An error about the file with the matrices.
    pub(super) fn refuse(&self, place: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::invalid(&self.weights, place, reason)
    }

    /// The modules, in the order of their names.
    ///
    /// # Errors
    /// What isn't a safetensors file, or holds anything else than pairs of A and B.
    pub(super) fn modules(&self) -> Result<Vec<Module<'_>>, Error> {
        let tensors = SafeTensors::deserialize(&self.bytes)
            .map_err(|error| self.refuse("safetensors header", error.to_string()))?;
        let mut found: BTreeMap<String, [Option<Matrix<'_>>; 3]> = BTreeMap::new();
        for (tensor, view) in tensors.tensors() {
            let Some((module, part)) = split(&tensor) else {
                let reason = "not an A or B of a linear layer, and nothing else is kept beside a model; merge the \
                              adapter instead: fine-tune export --adapter DIR";
                return Err(self.refuse(format!("tensor {tensor}"), reason));
            };
            let [a, b, base] = found.entry(module.to_owned()).or_default();
            let place = match part {
                Part::A => a,
                Part::B => b,
                Part::Base => base,
            };
            if place.replace(Matrix(view)).is_some() {
                return Err(self.refuse(format!("tensor {tensor}"), "there are two of it"));
            }
        }
        if found.is_empty() {
            return Err(self.refuse("tensors", "there are none"));
        }
        let modules = found.into_iter().map(|(name, parts)| match parts {
            [Some(a), Some(b), base] => Ok(Module {
                rank: self.settings.rank_of(&name),
                scale: self.settings.scale_of(&name),
                name,
                a,
                b,
                base,
            }),
            [a, ..] => {
                let missing = if a.is_none() { "A" } else { "B" };
                Err(self.refuse(place_of(&name), format!("its {missing} is missing")))
            }
        });
        modules.collect()
    }

    /// The numbers of a module's matrix `part`.
    ///
    /// # Errors
    /// Numbers that aren't finite, and formats that aren't floats.
    pub(super) fn numbers(
        &self,
        module: &Module<'_>,
        part: &str,
        matrix: &Matrix<'_>,
    ) -> Result<Vec<f32>, Error> {
        let bytes = matrix.0.data();
        let halves = || bytes.as_chunks::<2>().0.iter().copied();
        let numbers: Vec<f32> = match matrix.0.dtype() {
            Dtype::F32 => {
                let (words, _) = bytes.as_chunks::<4>();
                words.iter().copied().map(f32::from_le_bytes).collect()
            }
            Dtype::F16 => halves()
                .map(|half| half::f16::from_le_bytes(half).to_f32())
                .collect(),
            Dtype::BF16 => halves()
                .map(|half| half::bf16::from_le_bytes(half).to_f32())
                .collect(),
            other => {
                let reason =
                    format!("its {part} is stored as {other}; save it as F32, F16 or BF16");
                return Err(self.refuse(module.place(), reason));
            }
        };
        if numbers.iter().any(|number| !number.is_finite()) {
            let reason = format!("its {part} holds numbers that aren't finite; train it again");
            return Err(self.refuse(module.place(), reason));
        }
        Ok(numbers)
    }
}

/// Which of a module's tensors.
enum Part {
    A,
    B,
    Base,
}

/// `base_model.model.MODULE.lora_A.weight` as module and part.
fn split(tensor: &str) -> Option<(&str, Part)> {
    let name = tensor.strip_prefix("base_model.model.").unwrap_or(tensor);
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let name = name.strip_suffix(".default").unwrap_or(name);
    let (module, part) = name.rsplit_once('.')?;
    match part {
        "lora_A" => Some((module, Part::A)),
        "lora_B" => Some((module, Part::B)),
        "base_layer" => Some((module, Part::Base)),
        _ => None,
    }
}

/// The file `name` of `folder`, which may be a link inside it, or, in a snapshot of Hugging Face's cache, into the
/// cache's blobs.
///
/// # Errors
/// When it isn't there, isn't an ordinary file, or leads elsewhere.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = folder.join(name);
    let io = |source| Error::io(&path, "find", source);
    let real = path.canonicalize().map_err(io)?;
    let root = folder.canonicalize().map_err(io)?;
    let blobs = root
        .parent()
        .filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))
        .and_then(Path::parent)
        .map(|repository| repository.join("blobs"));
    let stays = real.starts_with(&root) || blobs.is_some_and(|blobs| real.starts_with(blobs));
    if !stays || !real.is_file() {
        let reason = "it leads out of the adapter's folder, or isn't an ordinary file; put the file itself there";
        return Err(Error::invalid(&path, "file", reason));
    }
    Ok(path)
}
