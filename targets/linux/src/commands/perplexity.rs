//! `furlong perplexity`: how well a model predicts a text.
//!
//! Computed as llama.cpp's `llama-perplexity` does, so that the figures can stand side by side: the text is cut into windows of
//! `--context` tokens that don't overlap; in each window the tokens of the second half are scored, all but the first of them; the
//! first token of a window is replaced by the beginning-of-text token if the tokenizer adds one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use furlong_runtime::Session;
use furlong_runtime::text::Likelihood;
use serde::Serialize;

use crate::cli::{CacheArgs, Kv, ModelArgs};
use crate::failure::Hint;
use crate::{model, progress, text};

/// The largest text that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Measure how well a model predicts a text
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong perplexity --model smollm2-q4 --text book.txt
  furlong perplexity --model smollm2-q4 --text book.txt --context 512 --windows 20 --json

Lower is better. The rule is that of llama.cpp's llama-perplexity: windows that don't overlap, the second half of each one scored.")]
pub struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A plain text of at least two windows
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens in one window [default: 512; 64 for the built-in model, which reads no more than 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..))]
    context: Option<u32>,
    /// Stop after so many windows [default: the whole text]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    windows: Option<u32>,
    /// Format of the cache of keys and values
    #[arg(long, value_enum, default_value = "f16")]
    kv: Kv,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    perplexity: f64,
    /// Standard error of `perplexity`, as llama.cpp computes it.
    standard_error: f64,
    /// Tokens in the text, or in as much of it as was asked for.
    tokens: usize,
    /// Tokens that were scored.
    scored: usize,
    windows: usize,
    context: usize,
    seconds: f64,
}

/// Runs the command.
///
/// # Errors
/// A text that can't be read or is too short, and whatever keeps the model from running.
pub fn run(args: &PerplexityArgs) -> Result<ExitCode> {
    let source = read_text(args)?;
    let usual = if args.model.model.is_some() { 512 } else { 64 };
    let window = usize::try_from(args.context.unwrap_or(usual))?;
    let cache = CacheArgs {
        context: window.try_into().ok(),
        kv: args.kv,
    };
    let (model, tokenizer) = model::decoder_and_tokenizer(&args.model, &cache)?;
    let tokenizer = tokenizer?;
    let bos = if tokenizer.adds_bos()? {
        tokenizer.bos_id()
    } else {
        None
    };
    let mut tokens = tokenizer.encode(&source, true)?;
    if let Some(windows) = args.windows {
        tokens.truncate(window.saturating_mul(usize::try_from(windows)?));
    }
    if tokens.len() < 2 * window {
        bail!(
            anyhow::anyhow!(
                "{} has {} tokens, fewer than two windows of {window}",
                args.text.display(),
                tokens.len()
            )
            .context(Hint("take a longer text or a smaller --context".to_owned()))
        );
    }
    let start = Instant::now();
    let template = "{bar:40} {pos}/{len} windows, {eta} left, perplexity {msg}";
    let progress = progress::bar(tokens.len() / window, template)?;
    let mut session = model.session()?;
    let mut score = Likelihood::default();
    for window in tokens.chunks_exact(window) {
        score_window(&mut session, window, bos, &mut score)?;
        progress.set_message(format!("{:.4}", score.perplexity()));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let output = Output {
        perplexity: score.perplexity(),
        standard_error: score.standard_error(),
        tokens: tokens.len(),
        scored: score.tokens(),
        windows: tokens.len() / window,
        context: window,
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.json {
        text::show_json(&output)?;
    } else {
        text::show(&format!(
            "perplexity {:.4} ± {:.4} ({} tokens, {} of them scored, windows of {window})\n",
            output.perplexity, output.standard_error, output.tokens, output.scored
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the text; one line end at its end doesn't count.
fn read_text(args: &PerplexityArgs) -> Result<String> {
    let path = &args.text;
    let place = || format!("can't read {}", path.display());
    let size = std::fs::metadata(path).with_context(place)?.len();
    if size > MAX_TEXT_BYTES {
        bail!("{} has more than {MAX_TEXT_BYTES} bytes", path.display());
    }
    let mut text = std::fs::read_to_string(path).with_context(place)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Scores the second half of a window.
fn score_window(
    session: &mut Session,
    window: &[u32],
    bos: Option<u32>,
    score: &mut Likelihood,
) -> Result<()> {
    let mut tokens = window.to_vec();
    if let (Some(bos), Some(first)) = (bos, tokens.first_mut()) {
        *first = bos;
    }
    // The first token of the second half is what the others follow.
    score.merge(Likelihood::of(session, &tokens, tokens.len() / 2 + 1)?);
    Ok(())
}
