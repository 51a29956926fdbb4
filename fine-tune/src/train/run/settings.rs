//! The settings of a run. Each is a flag of the command and a key of the settings file, from one definition: this one.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use serde::Serialize;

use super::layer_list::LayerList;
use crate::export::Weights;
use crate::quantise::{BLOCK, BLOCKS};
use crate::train::data::TooLong;
use crate::train::model::Precision;
use crate::train::optimise::{OptimiserKind, ScheduleKind};

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A low-rank adapter beside frozen weights.
    Lora,
    /// All weights.
    Full,
}

/// What the frozen weights under an adapter are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseWeights {
    /// Not at all.
    F32,
    /// As `fine-tune export --weights q8` rounds them.
    Q8,
    /// As `fine-tune export --weights q4` rounds them.
    Q4,
}

impl From<BaseWeights> for Weights {
    fn from(weights: BaseWeights) -> Weights {
        match weights {
            BaseWeights::F32 => Weights::F32,
            BaseWeights::Q8 => Weights::Q8,
            BaseWeights::Q4 => Weights::Q4,
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// A graphics card, by way of Vulkan, Metal or DirectX 12.
    Gpu,
    /// A graphics card, by way of CUDA.
    Cuda,
}

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// Model and data.
    #[command(flatten, next_help_heading = "Model and data")]
    #[serde(flatten)]
    pub data: DataSettings,
    /// What is learnt.
    #[command(flatten, next_help_heading = "Method")]
    #[serde(flatten)]
    pub method: MethodSettings,
    /// How it is learnt.
    #[command(flatten, next_help_heading = "Optimiser")]
    #[serde(flatten)]
    pub optimiser: OptimiserSettings,
    /// How the run goes.
    #[command(flatten, next_help_heading = "Run")]
    #[serde(flatten)]
    pub run: RunSettings,
}

/// Model and data.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataSettings {
    /// The model to go on from: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "FOLDER|FILE")]
    pub base: Option<PathBuf>,
    /// Go on teaching an adapter of that base, a PEFT folder, instead of beginning a new one: its rank, scale and modules stay.
    #[arg(long, value_name = "FOLDER", requires = "base")]
    pub adapter: Option<PathBuf>,
    /// Train a new model from scratch: its config.json in Hugging Face's fields.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "base",
        requires = "tokenizer"
    )]
    pub architecture: Option<PathBuf>,
    /// The new model's tokenizer.json; tokenizer_config.json and generation_config.json beside it are used too.
    #[arg(long, value_name = "FILE", requires = "architecture")]
    pub tokenizer: Option<PathBuf>,
    /// What to learn from: JSON lines.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// What to measure the loss on now and then: JSON lines that are not learnt from.
    #[arg(long, value_name = "FILE")]
    pub eval: Option<PathBuf>,
    /// The most tokens of an example, and of a packed row; never more than the model's context.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = value_parser!(u32).range(2..=1 << 20))]
    pub max_tokens: u32,
    /// What to do with longer examples.
    #[arg(long, value_name = "WAY", value_enum, default_value_t = TooLong::Split)]
    pub too_long: TooLong,
    /// Give prompts to the model's chat template as the user's message, instead of as they stand.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub chat: bool,
    /// Learn to write the prompts too, not only the answers.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub learn_prompts: bool,
    /// Put several examples into a row; they don't see each other.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub packing: bool,
    /// Without packing: put examples of like length into the same batch.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub by_length: bool,
}

/// What is learnt.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MethodSettings {
    /// An adapter, or all weights [default: lora; full from scratch].
    #[arg(long, value_name = "METHOD", value_enum)]
    pub method: Option<Method>,
    /// The adapter's rank.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=4096))]
    pub rank: u32,
    /// The adapter's weight is alpha / rank.
    #[arg(long, value_name = "X", default_value_t = 32.0, value_parser = positive)]
    pub alpha: f64,
    /// The adapter's weight is alpha / √rank (rsLoRA).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub rslora: bool,
    /// Learn the length of each row, too (DoRA).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub dora: bool,
    /// How many times faster the adapter's second factor learns (LoRA+).
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = positive)]
    pub lora_plus: f64,
    /// The layers that get an adapter, by PEFT's names (q_proj,v_proj), or all-linear.
    #[arg(long, value_name = "NAMES", default_value = "all-linear")]
    pub target_modules: String,
    /// The layers that get one, from 0: 15-29, or 0,2,4-7 [default: all]. With the upper half alone a step takes three quarters of
    /// the work.
    #[arg(long, value_name = "NUMBERS")]
    pub layers: Option<LayerList>,
    /// Encoders: what the cosines of pairs are multiplied by.
    #[arg(long, value_name = "X", default_value_t = 20.0, value_parser = positive)]
    pub pair_scale: f64,
    /// What the frozen weights under an adapter are rounded to, so that it learns around the rounding of the model that is shipped.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = BaseWeights::F32)]
    pub base_weights: BaseWeights,
    /// Columns that share a scale in those weights: what the export's --block will be.
    #[arg(long, value_name = "32|64|128", default_value_t = BLOCK as u32, value_parser = block)]
    pub block: u32,
    /// Share of the adapter's inputs that are left out at random.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub adapter_dropout: f64,
    /// Share of what each block adds to its input that is left out at random.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub residual_dropout: f64,
    /// Share of the attention that is left out at random.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub attention_dropout: f64,
    /// Compute each block again on the way back instead of keeping what it computed: less memory, a third more work.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub recompute: bool,
    /// What linear layers multiply in, where the device has it: bf16 is fast on graphics cards, by way of CUDA or Metal, and slower
    /// on the processor.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
}

/// How it is learnt.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OptimiserSettings {
    /// The rule for the matrices inside the model; AdamW moves the others.
    #[arg(long, value_name = "RULE", value_enum, default_value_t = OptimiserKind::Adamw)]
    pub optimiser: OptimiserKind,
    /// The highest learning rate [default: 2e-4 for an adapter, 2e-5 for all weights, 1e-3 from scratch].
    #[arg(long, value_name = "X", value_parser = positive)]
    pub learning_rate: Option<f64>,
    /// How the learning rate falls.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ScheduleKind::Cosine)]
    pub schedule: ScheduleKind,
    /// Steps in which the learning rate rises; below 1 a share of all steps.
    #[arg(long, value_name = "STEPS", default_value_t = 0.05, value_parser = not_negative)]
    pub warm_up: f64,
    /// Share of the learning rate that is left in the end.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub floor: f64,
    /// Schedules step and plateau: what the learning rate is multiplied by.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub factor: f64,
    /// Schedule step: after how many steps [default: a third of the run].
    #[arg(long, value_name = "STEPS", value_parser = value_parser!(u64).range(1..))]
    pub factor_every: Option<u64>,
    /// Schedule plateau: evaluations without a lower loss that are waited for.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub patience: u64,
    /// Share by which matrices shrink at each step, times the learning rate.
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = not_negative)]
    pub weight_decay: f64,
    /// AdamW: how much of the mean gradient is kept at each step.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    pub beta1: f64,
    /// AdamW: how much of the mean square is kept at each step.
    #[arg(long, value_name = "SHARE", default_value_t = 0.999, value_parser = share)]
    pub beta2: f64,
    /// AdamW: added to the root of the mean square.
    #[arg(long, value_name = "X", default_value_t = 1e-8, value_parser = positive)]
    pub epsilon: f64,
    /// Muon: how much of the past gradients is kept at each step.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = share)]
    pub momentum: f64,
    /// The most that the norm of all gradients together may be; 0 for no bound.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = not_negative)]
    pub clip_norm: f64,
    /// The most that an element of a gradient may be; 0 for no bound.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = not_negative)]
    pub clip_value: f64,
}

/// How the run goes.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSettings {
    /// Rows that go through the model at once.
    #[arg(long, value_name = "ROWS", default_value_t = 8, value_parser = value_parser!(u32).range(1..=1 << 16))]
    pub batch_size: u32,
    /// Batches whose gradients are added up for a step; each target counts the same.
    #[arg(long, value_name = "BATCHES", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1 << 16))]
    pub accumulate: u32,
    /// Passes over the data [default: 3, or until max-steps].
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1 << 20))]
    pub epochs: Option<u64>,
    /// The most steps.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1 << 40))]
    pub max_steps: Option<u64>,
    /// Steps between evaluations; 0 for one after each epoch.
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    pub eval_every: u64,
    /// Stop after so many evaluations without a lower loss; 0 to go on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub early_stop: u64,
    /// Steps between checkpoints; 0 for none but those of evaluations and of the end.
    #[arg(long, value_name = "STEPS", default_value_t = 100)]
    pub checkpoint_every: u64,
    /// Checkpoints that are kept: the newest, and the best beside them.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(1..))]
    pub keep: u32,
    /// Seed of everything that is drawn at random: the same seed gives the same run.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// What computes.
    #[arg(long, value_name = "DEVICE", value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// How many devices of that kind take each step together: they share its --accumulate batches.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=64))]
    pub devices: u32,
    /// Threads that compute on the processor [default: one for each core].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
}

/// Settings that change no loss, and may differ when a run is resumed.
pub(super) const FREE: [&str; 5] = ["checkpoint-every", "keep", "device", "devices", "threads"];

/// Settings that name files.
pub(super) const FILES: [&str; 6] = [
    "base",
    "adapter",
    "architecture",
    "tokenizer",
    "data",
    "eval",
];

impl Settings {
    /// Whether a new model is made, rather than one gone on from.
    pub fn from_scratch(&self) -> bool {
        self.data.architecture.is_some()
    }

    /// What is learnt.
    pub fn method(&self) -> Method {
        match self.method.method {
            Some(method) => method,
            None if self.from_scratch() => Method::Full,
            None => Method::Lora,
        }
    }

    /// The highest learning rate.
    pub fn learning_rate(&self) -> f64 {
        let usual = match self.method() {
            Method::Lora => 2e-4,
            Method::Full if self.from_scratch() => 1e-3,
            Method::Full => 2e-5,
        };
        self.optimiser.learning_rate.unwrap_or(usual)
    }
}

fn block(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(block) if BLOCKS.contains(&(block as usize)) => Ok(block),
        _ => Err("must be 32, 64 or 128".to_owned()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("not a number".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match number(text)? {
        number if number > 0.0 => Ok(number),
        _ => Err("must be more than 0".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match number(text)? {
        number if number >= 0.0 => Ok(number),
        _ => Err("must not be less than 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match number(text)? {
        number if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("must be between 0 and 1".to_owned()),
    }
}
