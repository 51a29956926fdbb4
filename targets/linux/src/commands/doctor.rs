//! `furlong doctor`: what this machine can do, and what a model will therefore do at best.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use furlong::machine::cpu::{self, Cluster, Processors};
use furlong::machine::{bandwidth, clock};
use furlong_core::Isa;
use furlong_runtime::{LoadOptions, Model, ModelKind};
use serde::Serialize;

use crate::{model, text};

/// Show what this machine can do
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong doctor
  furlong doctor --model smollm2-q4 --threads 4 --json

With a model, the ceiling of its decoding speed: memory bandwidth divided by the bytes of weights that each token reads.")]
pub struct DoctorArgs {
    /// A model's folder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    #[serde(flatten)]
    processors: Processors,
    kernels: &'static str,
    threads: usize,
    bandwidth_gb_s: f64,
    bandwidth_one_thread_gb_s: f64,
    memory_bytes: Option<u64>,
    available_bytes: Option<u64>,
    model: Option<AtBest>,
    advice: Vec<String>,
}

/// What a model will do at best.
#[derive(Debug, Serialize)]
struct AtBest {
    path: String,
    weights_bytes: usize,
    decode_ceiling_tok_s: f64,
    /// Bytes of weights, tables and a full cache.
    memory_bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// A path that isn't a model.
pub fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let threads = model::threads(args.threads);
    let one_thread = bandwidth::read_gb_s(NonZeroUsize::MIN);
    let all_threads = match threads.get() {
        1 => one_thread,
        _ => bandwidth::read_gb_s(threads),
    };
    let available_bytes = clock::available_bytes();
    let options = LoadOptions {
        threads: args.threads,
        ..LoadOptions::default()
    };
    let loaded = args
        .model
        .as_deref()
        .map(|path| model::load(path, &options))
        .transpose()?;
    let at_best = loaded
        .filter(|model| model.kind() == ModelKind::Decoder)
        .map(|model| at_best(&model, all_threads));
    let processors = cpu::processors();
    let advice = advice(&processors, threads, at_best.as_ref(), available_bytes);
    let output = Output {
        processors,
        kernels: Isa::detect().name(),
        threads: threads.get(),
        bandwidth_gb_s: all_threads,
        bandwidth_one_thread_gb_s: one_thread,
        memory_bytes: clock::total_bytes(),
        available_bytes,
        model: at_best,
        advice,
    };
    if args.json {
        text::show_json(&output)?;
    } else {
        text::show(&table(&output))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn at_best(model: &Model, bandwidth_gb_s: f64) -> AtBest {
    let report = model.report();
    let weights_bytes = report.weights_bytes();
    let tables: usize = report.tables.iter().map(|table| table.bytes).sum();
    AtBest {
        path: model.path().display().to_string(),
        weights_bytes,
        decode_ceiling_tok_s: bandwidth_gb_s * 1e9 / weights_bytes.max(1) as f64,
        memory_bytes: weights_bytes + tables + report.kv_bytes(report.context_length),
    }
}

/// What to change on this machine.
fn advice(
    processors: &Processors,
    threads: NonZeroUsize,
    model: Option<&AtBest>,
    available_bytes: Option<u64>,
) -> Vec<String> {
    let mut advice = Vec::new();
    let slow = |cluster: &&Cluster| {
        let governor = cluster.governor.as_deref();
        governor.is_some_and(|governor| governor != "performance")
    };
    if let Some(cluster) = processors.clusters.iter().find(slow) {
        advice.push(format!(
            "the clock governor is `{}`; `performance` is steadier and often faster",
            cluster.governor.as_deref().unwrap_or_default()
        ));
    }
    if let [fastest, _, ..] = processors.clusters.as_slice()
        && threads.get() > fastest.cores.len()
    {
        advice.push(format!(
            "cores differ: try --threads {} for the {} {} alone",
            fastest.cores.len(),
            fastest.cores.len(),
            fastest.name
        ));
    }
    if let (Some(model), Some(available)) = (model, available_bytes)
        && u64::try_from(model.memory_bytes).is_ok_and(|needed| needed > available)
    {
        advice.push(format!(
            "the model needs {} with a full cache, but {} are available: use a smaller --context",
            text::bytes(model.memory_bytes as u64),
            text::bytes(available)
        ));
    }
    advice
}

fn table(output: &Output) -> String {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let bytes = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), text::bytes);
    let mut rows = vec![
        row("architecture", output.processors.architecture.to_owned()),
        row("instruction sets", output.processors.features.join(" ")),
        row("kernels", output.kernels.to_owned()),
    ];
    for cluster in &output.processors.clusters {
        let mut text = format!("{} × {}", cluster.cores.len(), cluster.name);
        if let Some(mhz) = cluster.max_mhz {
            text.push_str(&format!(", {mhz} MHz"));
        }
        if let Some(governor) = &cluster.governor {
            text.push_str(&format!(", governor {governor}"));
        }
        rows.push(row("cores", text));
    }
    rows.push(row("usable cores", output.processors.available.to_string()));
    let memory = format!(
        "{}, {} available",
        bytes(output.memory_bytes),
        bytes(output.available_bytes)
    );
    rows.push(row("memory", memory));
    let one = output.bandwidth_one_thread_gb_s;
    rows.push(row("bandwidth, 1 thread", format!("{one:.1} GB/s")));
    if output.threads > 1 {
        let name = format!("bandwidth, {} threads", output.threads);
        rows.push(row(&name, format!("{:.1} GB/s", output.bandwidth_gb_s)));
    }
    if let Some(model) = &output.model {
        rows.push(row("model", model.path.clone()));
        rows.push(row(
            "weights read a token",
            text::bytes(model.weights_bytes as u64),
        ));
        let ceiling = format!("{:.1} tok/s", model.decode_ceiling_tok_s);
        rows.push(row("decoding at best", ceiling));
        let memory = text::bytes(model.memory_bytes as u64);
        rows.push(row("memory with a full cache", memory));
    }
    let advice = output.advice.iter();
    let advice: String = advice.map(|advice| format!("hint: {advice}\n")).collect();
    text::pairs(&rows) + &advice
}
