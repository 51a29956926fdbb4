//! `furlong plan`: a model as one flat image for a board without an operating system, and what it asks of the board.

mod board;
mod fit;
mod svg;
mod tables;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use furlong::built_in;
use furlong_core::IsaKind;
use furlong_runtime::text::SamplingParams;
use furlong_runtime::{Certificate, KvFormat, LoweredModel, ModelFiles, PlanOptions};
use serde::Serialize;

use crate::cli::Kv;
use crate::commands::pack;
use crate::failure::Hint;
use crate::{model, text};
use board::Board;
use fit::Fit;

/// Make a flat plan of a model for a board without an operating system, and say what it needs
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong plan --board mps2-an386 --context 64 --out built-in.plan
  furlong plan home-q8 --board mps2-an386 --context 64 --kv q8 --out home.plan
  furlong plan home-q8 --board nrf52840-dk --context 64 --json
  furlong plan home-q8 --context 64 --kv q8 --details --svg memory.svg
  furlong plan minilm-q8 --board virt-aarch64 --context 64 --out minilm.plan

Without --out nothing is written: the certificate alone says whether the model fits. When it doesn't fit the board, the \
command fails (exit code 1) and says what would make it fit. docs/plan-format.md describes the file.")]
pub struct PlanArgs {
    /// The model's folder, as `fine-tune export` writes it [default: the built-in model]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The board to plan for: a name from targets/boards, or a file like those
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Instruction set that weights are packed for [default: the board's, or scalar without one]
    #[arg(long, value_name = "NAME", value_parser = pack::isa)]
    isa: Option<IsaKind>,
    /// Most tokens of prompt and answer together, or of a sentence [default: what the model was made for]
    #[arg(long, value_name = "N")]
    context: Option<NonZeroUsize>,
    /// Format of the cache of keys and values
    #[arg(long, value_enum, default_value = "f16")]
    kv: Kv,
    /// Most tokens of a prompt that are read at once: more are faster, fewer take less memory
    #[arg(long, value_name = "N", default_value_t = PlanOptions::TILE)]
    tile: NonZeroUsize,
    /// How the board chooses tokens: 0 takes the likeliest each time
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// The board chooses among the K likeliest tokens only [0: all]
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// The board chooses among the likeliest tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Start of the board's random numbers
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// File to write the plan to
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show every op and every buffer
    #[arg(long, conflicts_with = "json")]
    details: bool,
    /// Print one JSON object, every op and buffer in it
    #[arg(long)]
    json: bool,
    /// Draw memory over time into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    certificate: &'a Certificate,
    /// Cargo features of `furlong-core`.
    features: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<&'a Fit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_tokenizer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
}

/// Runs the command.
///
/// # Errors
/// A path that isn't a model, a model that plans can't hold, one that doesn't fit the board, or a file that can't be
/// written.
pub fn run(args: &PlanArgs) -> Result<ExitCode> {
    let board = args.board.as_deref().map(Board::load).transpose()?;
    let isa = args.isa.or(board.as_ref().map(|board| board.isa));
    let options = PlanOptions {
        isa: isa.unwrap_or(IsaKind::Scalar),
        context: args.context.map(NonZeroUsize::get),
        kv: args.kv.into(),
        tile: args.tile,
        sampling: SamplingParams {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            seed: args.seed,
            ..SamplingParams::GREEDY
        },
        threads: model::threads(None),
    };
    let lowered = match &args.model {
        Some(model) => LoweredModel::load(model, &options),
        None => LoweredModel::load_files(&ModelFiles::Embedded(built_in::HOME_COMMANDS), &options),
    }?;
    let certificate = lowered.certificate()?;
    let finished = lowered.finish()?;
    let kv = KvFormat::from(args.kv);
    let fit = board
        .map(|board| Fit::of(&board, &lowered, &certificate, &finished.features, kv))
        .transpose()?;
    if let Some(file) = &args.svg {
        write(file, svg::draw(&certificate).as_bytes())?;
    }
    let fits = fit.as_ref().is_none_or(|fit| fit.fits);
    let features: Vec<&str> = finished.features.iter().map(|f| f.name()).collect();
    let file = args.out.as_deref().filter(|_| fits);
    if let Some(file) = file {
        write(file, &finished.image)?;
    }
    if args.json {
        text::show_json(&Output {
            certificate: &certificate,
            features: &features,
            board: fit.as_ref(),
            without_tokenizer: lowered.without_tokenizer(),
            file,
        })?;
        return Ok(if fits {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut shown = tables::summary(&certificate, &features, fit.as_ref());
    let reads_features = certificate.kind == "features";
    if let Some(reason) = lowered.without_tokenizer().filter(|_| !reads_features) {
        shown += &format!("\nThe board reads and writes tokens, not text: {reason}.\n");
    }
    if args.details {
        shown += &tables::details(&certificate);
    }
    if let Some(file) = file {
        shown += &format!("\n{}\n", file.display());
    }
    text::show(&shown)?;
    match fit {
        Some(fit) if !fit.fits => {
            Err(anyhow::anyhow!(fit.what_is_too_much()).context(Hint(fit.advice())))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a file whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = file.with_file_name(name);
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, file));
    if written.is_err() {
        // What there is of it is of no use.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(|| format!("can't write {}", file.display()))
}
