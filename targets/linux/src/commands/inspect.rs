//! `furlong inspect`: what a model consists of, and what it will need and use here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use furlong_runtime::{LoadOptions, Model, ModelKind, Report};
use serde::Serialize;

use crate::cli::{Kv, ModelArgs};
use crate::text;

/// Show what a model consists of
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong inspect
  furlong inspect --model smollm2-q4
  furlong inspect --model smollm2-q4 --context 2048 --json

Kernels are those that this machine will use; run it on the board to see the board's.")]
pub struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens to compute the cache's memory for [default: the model's whole context]
    #[arg(long, value_name = "N")]
    context: Option<NonZeroUsize>,
    /// Format of the cache of keys and values
    #[arg(long, value_enum, default_value = "f16")]
    kv: Kv,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output<'a> {
    model: String,
    kind: ModelKind,
    metadata: BTreeMap<&'a str, &'a str>,
    weights: BTreeMap<String, Weights>,
    memory: Memory,
    #[serde(flatten)]
    report: &'a Report,
}

/// Weights that are stored alike.
#[derive(Debug, Default, Serialize)]
struct Weights {
    matrices: usize,
    numbers: usize,
    bytes: usize,
}

/// What a session needs.
#[derive(Debug, Serialize)]
struct Memory {
    context: usize,
    weights_bytes: usize,
    cache_bytes: usize,
    total_bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// A path that isn't a model.
pub fn run(args: &InspectArgs) -> Result<ExitCode> {
    let options = LoadOptions {
        threads: args.model.threads,
        weights_cache: args.model.weights_cache.clone(),
        kv: args.kv.into(),
        context: args.context.map(NonZeroUsize::get),
        ..LoadOptions::default()
    };
    let model = Model::load_files(&args.model.files(), &options)?;
    let report = model.report();
    let tables: usize = report.tables.iter().map(|table| table.bytes).sum();
    let context = report.context_length;
    let cache_bytes = report.kv_bytes(context);
    let weights_bytes = report.weights_bytes();
    let output = Output {
        model: model.path().display().to_string(),
        kind: model.kind(),
        metadata: model.all_metadata().collect(),
        weights: weights(&report),
        memory: Memory {
            context,
            weights_bytes,
            cache_bytes,
            total_bytes: weights_bytes + tables + cache_bytes,
        },
        report: &report,
    };
    if args.json {
        text::show_json(&output)?;
    } else {
        text::show(&describe(&output))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The linear layers by kernel and the tables by format.
fn weights(report: &Report) -> BTreeMap<String, Weights> {
    let mut all: BTreeMap<String, Weights> = BTreeMap::new();
    let mut add = |name: String, rows: usize, cols: usize, bytes: usize| {
        let weights = all.entry(name).or_default();
        weights.matrices += 1;
        weights.numbers += rows * cols;
        weights.bytes += bytes;
    };
    for linear in &report.linears {
        let name = format!("linear, {}", linear.kernel);
        add(name, linear.rows, linear.cols, linear.bytes);
    }
    for table in &report.tables {
        let name = format!("table, {}", table.format);
        add(name, table.rows, table.cols, table.bytes);
    }
    all
}

fn describe(output: &Output<'_>) -> String {
    let row = |cells: &[&str]| {
        cells
            .iter()
            .map(|cell| (*cell).to_owned())
            .collect::<Vec<_>>()
    };
    let mut out = format!("{}\n\n", output.model);
    for (key, value) in &output.metadata {
        out.push_str(&format!("{key}: {value}\n"));
    }
    let mut rows = vec![row(&[
        "  format",
        "matrices",
        "numbers",
        "bytes",
        "bits/number",
    ])];
    for (name, weights) in &output.weights {
        let bits = weights.bytes as f64 * 8.0 / weights.numbers.max(1) as f64;
        rows.push(vec![
            format!("  {name}"),
            weights.matrices.to_string(),
            weights.numbers.to_string(),
            text::bytes(weights.bytes as u64),
            format!("{bits:.2}"),
        ]);
    }
    out.push_str(&format!("\nWeights\n{}", text::columns(&rows)));
    let ops = output.report.ops.iter();
    let rows: Vec<_> = ops
        .map(|(op, count)| vec![format!("  {op}"), count.to_string()])
        .collect();
    let (isa, threads) = (output.report.isa, output.report.threads);
    let title = format!("\nOps ({isa} kernels, {threads} threads)\n");
    out.push_str(&title);
    out.push_str(&text::columns(&rows));
    let memory = &output.memory;
    let row = |name: String, bytes: usize| vec![name, text::bytes(bytes as u64)];
    let mut rows = vec![row(
        "  weights read a token".to_owned(),
        memory.weights_bytes,
    )];
    if output.kind == ModelKind::Decoder {
        let name = format!("  cache of {} tokens", memory.context);
        rows.push(row(name, memory.cache_bytes));
    }
    let name = "  weights, tables and cache".to_owned();
    rows.push(row(name, memory.total_bytes));
    out.push_str(&format!("\nMemory\n{}", text::columns(&rows)));
    out.push_str(&match &output.report.weights_file {
        Some(file) => format!("  packed weights are mapped from {}\n", file.display()),
        None => "  packed weights are in memory of this process\n".to_owned(),
    });
    out
}
