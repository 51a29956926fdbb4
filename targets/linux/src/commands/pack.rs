//! `furlong pack`: packs a model's weights ahead of time, on this machine or for another.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use furlong_core::{Isa, IsaKind};
use furlong_runtime::{PackReport, pack_weights};
use serde::Serialize;

use crate::{model, text};

/// Pack a model's weights ahead of time
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong pack --model smollm2-q4
  furlong pack --model smollm2-q4 --isa neon-dotprod
  furlong pack --model smollm2-q4 --isa neon --out smollm2-neon.packed

Loading a model packs its weights once and maps them from then on; this does it beforehand. Copy the folder .furlong \
with the model to a board that has the instruction set: the board checks once that the model is the same.")]
pub struct PackArgs {
    /// The model's folder, as `fine-tune export` writes it
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Instruction set to pack for, as `furlong inspect` on the board names it [default: this machine's best]
    #[arg(long, value_name = "NAME", value_parser = isa)]
    isa: Option<IsaKind>,
    /// File to write [default: where the model is looked for, MODEL/.furlong/]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    #[serde(flatten)]
    report: PackReport,
    seconds: f64,
}

/// Reads the name of an instruction set.
///
/// # Errors
/// Lists the names there are.
pub fn isa(name: &str) -> Result<IsaKind, String> {
    IsaKind::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = IsaKind::ALL.into_iter().map(IsaKind::name).collect();
        format!("the instruction sets are {}", names.join(", "))
    })
}

/// Runs the command.
///
/// # Errors
/// A path that isn't a model, or a file that can't be written.
pub fn run(args: &PackArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let isa = args.isa.unwrap_or_else(|| Isa::detect().kind());
    let threads = model::threads(args.threads);
    let report = pack_weights(&args.model, isa, threads, args.out.as_deref())?;
    let output = Output {
        report,
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.json {
        text::show_json(&output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let PackReport {
        file,
        isa,
        matrices,
        bytes,
    } = output.report;
    let size = text::bytes(bytes as u64);
    text::show(&format!(
        "{}\n{matrices} matrices, {size}, for {isa}, in {:.1} s\n",
        file.display(),
        output.seconds
    ))?;
    Ok(ExitCode::SUCCESS)
}
