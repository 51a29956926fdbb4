//! `furlong infer`: any ONNX graph, named arrays in, named arrays out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use furlong::npz::{self, Limits, NpyArray};
use furlong_runtime::{Graph, GraphOptions};
use serde::Serialize;

use crate::{arrays, text};

/// Run any ONNX graph on arrays from a file
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  python3 -c \"import numpy as np; np.savez('in.npz', input_ids=np.array([[101, 7592, 102]]))\"
  furlong infer --model model.onnx --input in.npz --output out.npz

Each array goes to the graph's input of its name; the output file has one array for each output.")]
pub struct InferArgs {
    /// The graph
    #[arg(long, value_name = "FILE.onnx")]
    model: PathBuf,
    /// Its inputs, as `numpy.savez` writes them
    #[arg(long, value_name = "IN.npz")]
    input: PathBuf,
    /// Where its outputs go
    #[arg(long, value_name = "OUT.npz")]
    output: PathBuf,
    /// Run on tract as it is, without Furlong's own ops
    #[arg(long)]
    stock: bool,
    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// Print one JSON object that lists the outputs
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    outputs: Vec<Description>,
    load_s: f64,
    run_s: f64,
}

#[derive(Debug, Serialize)]
struct Description {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
}

/// Runs the command.
///
/// # Errors
/// Files that can't be read or written, and a graph that can't be run on these inputs.
pub fn run(args: &InferArgs) -> Result<ExitCode> {
    let inputs = npz::read(&args.input, Limits::default())?
        .into_iter()
        .map(|(name, array)| Ok((name, arrays::from_npy(array)?)))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let options = GraphOptions {
        stock: args.stock,
        threads: args.threads,
    };
    let graph = Graph::load(&args.model, &options)?;
    let load_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let outputs = graph.run(inputs)?;
    let run_s = start.elapsed().as_secs_f64();
    let outputs: Vec<(String, NpyArray)> = outputs
        .into_iter()
        .map(|(name, array)| Ok((name, arrays::into_npy(array)?)))
        .collect::<Result<_>>()?;
    npz::write(&args.output, &outputs)?;
    let outputs: Vec<Description> = outputs
        .into_iter()
        .map(|(name, array)| Description {
            name,
            dtype: array.dtype.name(),
            shape: array.shape,
        })
        .collect();
    if args.json {
        let output = Output {
            outputs,
            load_s,
            run_s,
        };
        text::show_json(&output)?;
    } else {
        let line =
            |output: &Description| format!("{} {} {:?}\n", output.name, output.dtype, output.shape);
        text::show(&outputs.iter().map(line).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}
