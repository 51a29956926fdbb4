//! `fine-tune export`: a checkpoint becomes a model folder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use furlong_fine_tune::export::{
    Calibration, Progress, Report, Request, Weights, ZeroPoints, export,
};
use furlong_fine_tune::quantise::BLOCKS;

use crate::{interrupt, terminal};

/// Turn a checkpoint into a model folder: ONNX, weights, tokenizer, model card.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    fine-tune export --base SmolLM2-135M-Instruct.gguf --weights q4 --out models/smollm2-q4\n  \
    fine-tune export --base SmolLM2-135M-Instruct --adapter runs/home --adapter-mode keep --weights q8 --out models/home\n\n\
    The folder is then ready for `furlong run --model models/smollm2-q4 \"Hello\"`.\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted.")]
pub struct ExportArguments {
    /// Checkpoint: a Hugging Face folder (config.json, *.safetensors) or a GGUF file.
    #[arg(long, value_name = "PATH")]
    base: PathBuf,
    /// LoRA adapter: a PEFT folder (adapter_config.json, adapter_model.safetensors). Several can be kept.
    #[arg(long, value_name = "FOLDER")]
    adapter: Vec<PathBuf>,
    /// What becomes of the adapter.
    #[arg(
        long,
        value_enum,
        default_value = "merge",
        value_name = "merge|keep",
        requires = "adapter"
    )]
    adapter_mode: AdapterModeArgument,
    /// What the weights become.
    #[arg(long, value_enum)]
    weights: WeightsArgument,
    /// Embedding and output head of a q4 export.
    #[arg(long, value_enum, default_value = "q8", value_name = "q8|q4")]
    embedding_weights: EmbeddingArgument,
    /// Zero points of a q4 export: `float` loses least, `packed` is smaller and faster in ONNX Runtime.
    #[arg(long, value_enum, default_value = "float", value_name = "float|packed")]
    zero_points: ZeroPointsArgument,
    /// Text in the model's language, a few thousand words or more: errors of rounding are made up for by its help (GPTQ). For q4
    /// and q8 of the Llama family.
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Most tokens of that text to read: more are slower and a little better.
    #[arg(long, value_name = "TOKENS", default_value_t = Calibration::TOKENS, requires = "calibrate")]
    calibrate_tokens: usize,
    /// Columns that share a scale in q8 and q4: larger blocks take fewer bytes and suit microcontrollers, and lose more.
    #[arg(long, value_name = "32|64|128", default_value = "32", value_parser = block)]
    block: usize,
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AdapterModeArgument {
    /// It is merged into the weights: no cost when the model runs.
    Merge,
    /// It stays beside the weights, in adapters/, and is chosen when the model runs.
    Keep,
}

#[derive(Clone, Copy, ValueEnum)]
enum WeightsArgument {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8 bits in blocks.
    Q8,
    /// 4 bits in blocks.
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

/// Runs the command.
///
/// # Errors
/// A checkpoint that can't be read, or a folder that can't be written.
pub fn run(arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let bar = terminal::progress_bar(0, "{bar:30} {pos}/{len} tensors  {wide_msg}");
    let request = request(arguments)?;
    let report = export(&request, &|progress: Progress<'_>| {
        bar.set_length(progress.tensors as u64);
        bar.set_position(progress.tensor as u64);
        bar.set_message(progress.name.to_owned());
        if interrupt::is_requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    let report = match report {
        Err(_) if interrupt::is_requested() => {
            eprintln!("interrupted; nothing was written");
            return Ok(ExitCode::from(interrupt::INTERRUPTED));
        }
        report => report?,
    };
    if arguments.json {
        terminal::show_json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn request(arguments: &ExportArguments) -> anyhow::Result<Request> {
    let (adapter, kept_adapters) = match (arguments.adapter_mode, arguments.adapter.as_slice()) {
        (AdapterModeArgument::Keep, all) => (None, all.to_vec()),
        (AdapterModeArgument::Merge, []) => (None, Vec::new()),
        (AdapterModeArgument::Merge, [only]) => (Some(only.clone()), Vec::new()),
        (AdapterModeArgument::Merge, _) => {
            anyhow::bail!("only one adapter can be merged; keep several with --adapter-mode keep")
        }
    };
    Ok(Request {
        base: arguments.base.clone(),
        adapter,
        kept_adapters,
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
        calibration: arguments.calibrate.clone().map(|text| Calibration {
            text,
            tokens: arguments.calibrate_tokens,
        }),
        block: arguments.block,
        context: arguments.context.map(|tokens| tokens as usize),
        out: arguments.out.clone(),
        force: arguments.force,
    })
}

fn block(text: &str) -> Result<usize, String> {
    let size = text.parse().ok();
    size.filter(|size| BLOCKS.contains(size))
        .ok_or_else(|| format!("blocks have {BLOCKS:?} columns"))
}

fn print(report: &Report) -> std::io::Result<()> {
    terminal::show(&format!(
        "{}: {} ({}), {:.1} million parameters as {}, {:.1} MB of weights\n",
        report.out.display(),
        report.base,
        report.architecture,
        report.parameters as f64 / 1e6,
        report.weights,
        report.data_bytes as f64 / 1e6,
    ))?;
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}
