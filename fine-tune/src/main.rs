//! The `fine-tune` command: prepares models for Furlong's runtime.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand, ValueEnum};
use furlong_fine_tune::export::{Progress, Report, Request, Weights, ZeroPoints, export};
use indicatif::{ProgressBar, ProgressStyle};

/// Exit code after Ctrl-C, as shells expect it.
const INTERRUPTED: u8 = 130;

/// Set by Ctrl-C; looked at between two tensors.
static STOP: AtomicBool = AtomicBool::new(false);

/// Prepare models for Furlong's runtime.
#[derive(Parser)]
#[command(name = "fine-tune", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turn a checkpoint into a model folder: ONNX, weights, tokenizer.
    #[command(after_help = "Example:\n  \
        fine-tune export --base SmolLM2-135M-Instruct.gguf --weights q4 --out models/smollm2-q4\n\n\
        The folder is then ready for `furlong run --model models/smollm2-q4 \"Hello\"`.\n\
        Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted.")]
    Export(ExportArguments),
}

#[derive(clap::Args)]
struct ExportArguments {
    /// Checkpoint: a Hugging Face folder (config.json, *.safetensors) or a GGUF file.
    #[arg(long, value_name = "PATH")]
    base: PathBuf,
    /// LoRA adapter to merge: a PEFT folder (adapter_config.json, adapter_model.safetensors).
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// What the weights become.
    #[arg(long, value_enum)]
    weights: WeightsArgument,
    /// Embedding and output head of a q4 export.
    #[arg(long, value_enum, default_value = "q8", value_name = "q8|q4")]
    embedding_weights: EmbeddingArgument,
    /// Zero points of a q4 export: `float` loses least, `packed` is smaller and faster in ONNX Runtime.
    #[arg(long, value_enum, default_value = "float", value_name = "float|packed")]
    zero_points: ZeroPointsArgument,
    /// Longest sequence in tokens, if it is to be shorter than the model's own: saves position tables.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Folder to write.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Replace the model folder if there is one.
    #[arg(long)]
    force: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum WeightsArgument {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8 bits, blocks of 32.
    Q8,
    /// 4 bits, blocks of 32.
    Q4,
}

#[derive(Clone, Copy, ValueEnum)]
enum EmbeddingArgument {
    Q8,
    Q4,
}

#[derive(Clone, Copy, ValueEnum)]
enum ZeroPointsArgument {
    Float,
    Packed,
}

fn main() -> ExitCode {
    let Arguments {
        command: Command::Export(arguments),
    } = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if STOP.load(Ordering::Relaxed) => {
            eprintln!("interrupted; nothing was written");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &ExportArguments) -> anyhow::Result<()> {
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?;
    let bar = progress_bar();
    let report = export(&request(arguments), &|progress: Progress<'_>| {
        bar.set_length(progress.tensors as u64);
        bar.set_position(progress.tensor as u64);
        bar.set_message(progress.name.to_owned());
        if STOP.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    let report = report?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn request(arguments: &ExportArguments) -> Request {
    Request {
        base: arguments.base.clone(),
        adapter: arguments.adapter.clone(),
        weights: match arguments.weights {
            WeightsArgument::F32 => Weights::F32,
            WeightsArgument::F16 => Weights::F16,
            WeightsArgument::Q8 => Weights::Q8,
            WeightsArgument::Q4 => Weights::Q4,
        },
        four_bit_embedding: matches!(arguments.embedding_weights, EmbeddingArgument::Q4),
        zero_points: match arguments.zero_points {
            ZeroPointsArgument::Float => ZeroPoints::Float,
            ZeroPointsArgument::Packed => ZeroPoints::Packed,
        },
        context: arguments.context.map(|tokens| tokens as usize),
        out: arguments.out.clone(),
        force: arguments.force,
    }
}

/// A bar on the terminal's error stream; nothing when that isn't a terminal.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} tensors  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

fn print(report: &Report) {
    println!(
        "{}: {} ({}), {:.1} million parameters as {}, {:.1} MB of weights",
        report.out.display(),
        report.base,
        report.architecture,
        report.parameters as f64 / 1e6,
        report.weights,
        report.data_bytes as f64 / 1e6,
    );
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
}
