//! From a checkpoint to a model folder that a runtime can load.

mod adapters;
mod metadata;
mod onnx_adapter;
mod staging;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::calibrate::{Rounded, Windows, calibrate};
use crate::card::{self, TrainingRecord};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{self, Precision, Storage};
use crate::quantise::Recipe;
use adapters::Kept;
use staging::Staging;

/// Name of the model file in a model folder.
pub const MODEL_FILE: &str = "model.onnx";
/// Name of the file with the big tensors, beside the model file.
pub const DATA_FILE: &str = "model.onnx.data";

/// What the weights of linear layers, embedding and head become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8 bits in blocks, symmetric.
    Q8,
    /// 4 bits in blocks, with zero points.
    Q4,
}

impl Weights {
    /// The name on the command line and in the metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// How each kind of weight is stored; the first two choices are for [`Weights::Q4`] only.
    pub fn precision(
        self,
        zero_points: ZeroPoints,
        four_bit_embedding: bool,
        block: usize,
    ) -> Precision {
        let both = |storage| Precision {
            linear: storage,
            embedding: storage,
            block,
        };
        match self {
            Self::F32 => both(Storage::F32),
            Self::F16 => both(Storage::F16),
            Self::Q8 => both(Storage::Blocks(Recipe::EightBits)),
            Self::Q4 => Precision {
                linear: Storage::Blocks(match zero_points {
                    ZeroPoints::Float => Recipe::FourBitsFloatZero,
                    ZeroPoints::Packed => Recipe::FourBits,
                }),
                embedding: Storage::Blocks(if four_bit_embedding {
                    Recipe::FourBits
                } else {
                    Recipe::EightBits
                }),
                block,
            },
        }
    }
}

/// How the zero points of 4-bit linear layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPoints {
    /// One f32 for each block: finer, and exact for weights that come from GGUF's `Q4_1`.
    Float,
    /// 4 bits for each block: smaller, and what ONNX Runtime has its fastest kernels for.
    Packed,
}

/// A calibration text.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The text file.
    pub text: PathBuf,
    /// Most tokens of it that are read.
    pub tokens: usize,
}

impl Calibration {
    /// Tokens that are read unless said otherwise.
    pub const TOKENS: usize = 8192;
}

/// What to export, how and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// Hugging Face folder or GGUF file.
    pub base: PathBuf,
    /// PEFT folder whose adapter is merged into the weights.
    pub adapter: Option<PathBuf>,
    /// PEFT folders whose adapters are kept beside the weights: the graph has slots for them.
    pub kept_adapters: Vec<PathBuf>,
    /// What the weights become.
    pub weights: Weights,
    /// Whether a q4 export keeps embedding and head in 4 bits too. They are 8 bits otherwise: the
    /// embedding's look-up has no float zero points, and a 4-bit head costs the most quality for each byte saved.
    pub four_bit_embedding: bool,
    /// Zero points of 4-bit linear layers.
    pub zero_points: ZeroPoints,
    /// A text whose help makes up for errors of rounding.
    pub calibration: Option<Calibration>,
    /// Columns that share a scale in q8 and q4: one of [`BLOCKS`](crate::quantise::BLOCKS).
    pub block: usize,
    /// Longest sequence to export tables for, in tokens, when it is to be shorter than the model's own.
    pub context: Option<usize>,
    /// The folder to write.
    pub out: PathBuf,
    /// Whether a model folder that is already there is replaced.
    pub force: bool,
}

impl Request {
    fn precision(&self) -> Precision {
        self.weights
            .precision(self.zero_points, self.four_bit_embedding, self.block)
    }
}

/// How far an export is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Tensors read so far, this one included.
    pub tensor: usize,
    /// Tensors of the model.
    pub tensors: usize,
    /// Name of the tensor that is worked on.
    pub name: &'a str,
}

/// What was exported.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model folder.
    pub out: PathBuf,
    /// The base model's name.
    pub base: String,
    /// `sha256:` and the digest of the base's weight files.
    pub base_digest: String,
    /// Hugging Face's `model_type`.
    pub architecture: String,
    /// `f32`, `f16`, `q8` or `q4`.
    pub weights: &'static str,
    /// Number of weights in the checkpoint.
    pub parameters: u64,
    /// Bytes of the file with the big tensors.
    pub data_bytes: u64,
    /// Names of the files in the folder.
    pub files: Vec<String>,
    /// What the checkpoint lacks that a runtime will miss.
    pub warnings: Vec<String>,
}

/// Exports a checkpoint. `progress` hears of every tensor and can stop the export.
///
/// Everything is written to a temporary folder beside `out`, which takes its place when it is complete.
/// The same checkpoint gives the same bytes.
///
/// # Errors
/// When the checkpoint or adapter can't be read or isn't supported, when `out` is in the way, or when writing fails; `out` is
/// untouched then.
pub fn export(
    request: &Request,
    progress: &dyn Fn(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report> {
    let mut checkpoint = Checkpoint::open(&request.base)?;
    if let Some(adapter) = &request.adapter {
        checkpoint.merge_adapter(adapter)?;
    }
    let architecture = with_context(checkpoint.architecture(), request.context);
    let precision = request.precision();
    precision.check(&architecture, &request.base)?;
    let kept = Kept::open(&request.kept_adapters, &checkpoint)?;
    let staging = Staging::new(&request.out, request.force)?;

    let base_digest = checkpoint.digest();
    let trained = request.adapter.as_deref().unwrap_or(&request.base);
    let training = TrainingRecord::read(trained)?;
    let mut metadata = metadata::of(
        &checkpoint,
        &architecture,
        request,
        precision,
        &base_digest,
        training.as_ref(),
    );
    if let Some(adapters) = kept.metadata() {
        metadata.insert("furlong.adapters".to_owned(), adapters);
    }
    let rounded = calibrated(request, &checkpoint, precision, progress)?;
    let specs = architecture.tensors();
    let started = Cell::new(0);
    let weights = |name: &str| {
        started.set(started.get() + 1);
        let state = Progress {
            tensor: started.get(),
            tensors: specs.len(),
            name,
        };
        match progress(state) {
            ControlFlow::Continue(()) => checkpoint.tensor(name),
            ControlFlow::Break(()) => Err(interrupted(&request.out)),
        }
    };
    let data = staging.path().join(DATA_FILE);
    let parts = graph::Parts {
        weights: &weights,
        precision,
        rounded: &rounded,
        slots: &kept.slots(),
    };
    let model = graph::build(&architecture, parts, &data, metadata.clone())?;
    write(&staging.path().join(MODEL_FILE), &model.encode_to_vec())?;
    let mut files = vec![MODEL_FILE.to_owned(), DATA_FILE.to_owned()];
    for (name, text) in checkpoint.sidecars().files() {
        write(&staging.path().join(name), text.as_bytes())?;
        files.push(name.to_owned());
    }
    files.extend(kept.write(staging.path())?);
    files.extend(card::write(staging.path(), &metadata)?.map(str::to_owned));
    let data_bytes = std::fs::metadata(&data).map_err(Error::io(&data))?.len();
    staging.publish()?;
    Ok(Report {
        out: request.out.clone(),
        base: checkpoint.name().to_owned(),
        base_digest,
        architecture: architecture.model_type().to_owned(),
        weights: request.weights.name(),
        parameters: metadata::parameters(&specs),
        data_bytes,
        files,
        warnings: warnings(&checkpoint),
    })
}

/// The matrices that a calibration text helps to round; none without one.
fn calibrated(
    request: &Request,
    checkpoint: &Checkpoint,
    precision: Precision,
    progress: &dyn Fn(Progress<'_>) -> ControlFlow<()>,
) -> Result<Rounded> {
    let Some(Calibration { text, tokens }) = &request.calibration else {
        return Ok(Rounded::new());
    };
    let Storage::Blocks(recipe) = precision.linear else {
        return Err(Error::Export {
            path: text.clone(),
            reason: "a calibration text helps to round weights, and these aren't rounded; export q4 or q8".to_owned(),
        });
    };
    let windows = Windows::read(text, checkpoint, *tokens)?;
    calibrate(
        checkpoint,
        recipe,
        precision.block,
        &windows,
        &|block, blocks| {
            progress(Progress {
                tensor: block,
                tensors: blocks,
                name: "calibrating",
            })
        },
    )
}

/// The architecture with its context cut to `context` tokens.
fn with_context(architecture: &Architecture, context: Option<usize>) -> Architecture {
    let mut architecture = architecture.clone();
    let length = match &mut architecture {
        Architecture::Decoder(config) => &mut config.context_length,
        Architecture::Encoder(config) => &mut config.context_length,
    };
    *length = context.unwrap_or(*length).min(*length);
    architecture
}

fn warnings(checkpoint: &Checkpoint) -> Vec<String> {
    let mut warnings = Vec::new();
    if checkpoint.sidecars().tokenizer.is_none() {
        warnings.push(
            "the checkpoint has no tokenizer.json: the model takes token ids, but no text"
                .to_owned(),
        );
    }
    if checkpoint.licence().is_none() {
        warnings.push(
            "the checkpoint doesn't state a licence: find out before you pass it on".to_owned(),
        );
    }
    warnings
}

fn interrupted(out: &Path) -> Error {
    Error::Export {
        path: out.to_owned(),
        reason: "interrupted; nothing was written".to_owned(),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(Error::io(path))
}
