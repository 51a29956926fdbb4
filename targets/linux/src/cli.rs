//! The command line: one variant a command, and the options that several of them share.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use furlong::built_in;
use furlong::machine::cores::Cores;
use furlong_runtime::text::{GenerateOptions, SamplingParams};
use furlong_runtime::{KvFormat, ModelFiles, WeightsCache};

use crate::commands::{
    bench::BenchArgs, chat::ChatArgs, classify::ClassifyArgs, doctor::DoctorArgs, embed::EmbedArgs,
    infer::InferArgs, inspect::InspectArgs, pack::PackArgs, perplexity::PerplexityArgs,
    plan::PlanArgs, run::RunArgs,
};

/// Runs quantised transformers on ARM and x86-64 Linux.
#[derive(Debug, Parser)]
#[command(name = "furlong", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunArgs),
    Chat(ChatArgs),
    Classify(ClassifyArgs),
    Embed(EmbedArgs),
    Infer(InferArgs),
    Inspect(InspectArgs),
    Pack(PackArgs),
    Plan(PlanArgs),
    Perplexity(PerplexityArgs),
    Bench(BenchArgs),
    Doctor(DoctorArgs),
}

/// Which model, and how to load it.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model's folder, as `fine-tune export` writes it [default: the built-in model, home commands to JSON]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Run on these cores only, such as `4-7` or `0,2`; `big` for the fastest ones
    #[arg(long, value_name = "LIST")]
    pub cores: Option<Cores>,
    /// Where packed weights are kept, to be mapped the next time: a folder, `auto` or `off`
    #[arg(long, value_name = "DIR", default_value = "auto", value_parser = weights_cache)]
    pub weights_cache: WeightsCache,
}

impl ModelArgs {
    /// The files of the model that was named, or of the built-in one.
    pub fn files(&self) -> ModelFiles {
        match &self.model {
            Some(folder) => ModelFiles::Folder(folder.clone()),
            None => ModelFiles::Embedded(built_in::HOME_COMMANDS),
        }
    }

    /// What messages call the model.
    pub fn name(&self) -> String {
        match &self.model {
            Some(folder) => folder.display().to_string(),
            None => built_in::HOME_COMMANDS.name().to_owned(),
        }
    }
}

fn weights_cache(text: &str) -> Result<WeightsCache, Infallible> {
    Ok(match text {
        "auto" => WeightsCache::Auto,
        "off" => WeightsCache::Off,
        folder => WeightsCache::Folder(folder.into()),
    })
}

/// How large a decoder's cache of keys and values is.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Most tokens of prompt and answer together [default: what the model was made for]
    #[arg(long, value_name = "N")]
    pub context: Option<NonZeroUsize>,
    /// Format of the cache of keys and values
    #[arg(long, value_enum, default_value = "f16")]
    pub kv: Kv,
}

/// Format of the cache of keys and values.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kv {
    /// Two bytes a number
    F16,
    /// Four bytes a number
    F32,
    /// A byte a number, and a scale for each 32
    Q8,
}

impl From<Kv> for KvFormat {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F16 => KvFormat::F16,
            Kv::F32 => KvFormat::F32,
            Kv::Q8 => KvFormat::Q8,
        }
    }
}

/// Which adapters to load beside the model.
#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// LoRA adapter: a PEFT folder, the name of one in the model's adapters/, or `none` for the model alone. May be given
    /// several times
    #[arg(long, value_name = "[NAME=]DIR", value_parser = adapter)]
    pub adapter: Vec<AdapterArg>,
}

/// An adapter by what it is called and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterArg {
    /// What it is called here, if not by its folder's name.
    pub name: Option<String>,
    /// Its folder, or its name in the model's folder.
    pub place: PathBuf,
}

fn adapter(text: &str) -> Result<AdapterArg, Infallible> {
    let named = text.split_once('=');
    Ok(
        match named.filter(|(name, _)| !name.is_empty() && !name.contains(['/', '.'])) {
            Some((name, place)) => AdapterArg {
                name: Some(name.to_owned()),
                place: place.into(),
            },
            None => AdapterArg {
                name: None,
                place: text.into(),
            },
        },
    )
}

/// How to choose each token, and when to stop.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// 0 takes the likeliest token each time; higher values vary more
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    /// Choose among the K likeliest tokens only [0: all]
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Choose among the likeliest tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f32,
    /// Drop tokens less likely than P times the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f32,
    /// Divide the logits of recent tokens by this; above 1 repeats less
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// The same seed gives the same text on every machine
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Guess up to K tokens at once from what was said before, and check them in one pass: the same answer, sooner where
    /// it repeats something [0: off]
    #[arg(long, value_name = "K", default_value_t = GenerateOptions::LOOKUP)]
    pub lookup: usize,
    /// Stop at this text (may be given several times)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// As the generator takes them.
    pub fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: SamplingParams {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                seed: self.seed,
                ..SamplingParams::GREEDY
            },
            stop: self.stop.clone(),
            lookup: self.lookup,
            ..GenerateOptions::default()
        }
    }
}
