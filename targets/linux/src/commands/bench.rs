//! `furlong bench`: how fast a model reads a prompt and writes an answer on this machine.
//!
//! As llama.cpp's `llama-bench` does it: the prompt is read into an empty cache, and the answer is written from an empty cache too,
//! each some times over; the median counts. The answer's tokens are the likeliest ones, choosing them included. With `--depth`
//! the answer is written after that many tokens instead, whose reading isn't counted. A model that embeds is measured by
//! `bench_encoder`.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use furlong::machine::{bandwidth, clock, memory};
use furlong_core::Isa;
use furlong_core::argmax::argmax;
use furlong_runtime::{Model, ModelKind, Profile, Session};
use serde::Serialize;

use super::bench_encoder;
use crate::cli::{AdapterArgs, CacheArgs, ModelArgs};
use crate::{adapters, model, profile, text};

/// Measure a model's speed
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong bench --model smollm2-q4 -p 128 -n 64
  furlong bench --model smollm2-q4 -p 128 -n 64 --threads 1 --repeat 5 --json
  furlong bench --model minilm-q8 -p 32

A model that embeds, in a folder or an .onnx file, is measured on one sentence of -p tokens.

Decoding reads every weight once a token: its ceiling is the memory bandwidth, measured with as many threads, divided by the \
bytes of weights.")]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// Tokens of the prompt
    #[arg(short, value_name = "N", default_value = "128")]
    prompt: NonZeroUsize,
    /// Tokens of the answer; 0 measures the prompt alone
    #[arg(short = 'n', value_name = "N", default_value = "64")]
    generate: usize,
    /// Tokens in the cache before the answer
    #[arg(long, value_name = "N", default_value = "0")]
    depth: usize,
    /// How many times each is measured
    #[arg(long, value_name = "R", default_value = "3")]
    repeat: NonZeroUsize,
    /// Leave out the memory bandwidth, and so the share of the ceiling
    #[arg(long)]
    no_ceiling: bool,
    /// Show where the time went, by op; with --json by node
    #[arg(long)]
    profile: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    pub(super) fn model(&self) -> String {
        self.model.name()
    }

    pub(super) fn prompt(&self) -> usize {
        self.prompt.get()
    }

    pub(super) fn repeat(&self) -> usize {
        self.repeat.get()
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    model: String,
    threads: usize,
    prompt_tokens: usize,
    generated_tokens: usize,
    /// Tokens in the cache before the answer.
    depth: usize,
    repeat: usize,
    prefill_tok_s: f64,
    /// This and what follows from it: nothing when no answer was written.
    decode_tok_s: Option<f64>,
    prefill_cpu_ms_per_token: f64,
    decode_cpu_ms_per_token: Option<f64>,
    /// Seconds to load the model and its tokenizer.
    load_s: f64,
    /// Seconds from the start of loading to the first token after the prompt.
    ttft_s: f64,
    peak_rss_bytes: Option<u64>,
    /// Bytes of weights read for one token.
    weights_bytes: usize,
    bandwidth_gb_s: Option<f64>,
    /// `decode_tok_s` by what the bandwidth allows.
    ceiling_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

/// Time on the clock and on the processors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub wall: Duration,
    pub cpu: Duration,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the model from running.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let (model, tokenizer) = model::any_and_tokenizer(&args.model, &args.cache)?;
    if model.kind() == ModelKind::Encoder {
        if args.profile || args.depth > 0 || !args.adapters.adapter.is_empty() {
            bail!("--profile, --depth and --adapter are for models that generate text");
        }
        bench_encoder::run(args, &model, start)?;
        return Ok(ExitCode::SUCCESS);
    }
    let load_s = start.elapsed().as_secs_f64();
    // Its loading counts, but a folder without one can still be measured.
    drop(tokenizer);
    memory::release_unused();
    let (prompt, generate) = (args.prompt.get(), args.generate);
    let most = prompt.max(generate.saturating_add(args.depth));
    if most > model.context_length() {
        let context = model.context_length();
        bail!("{most} tokens don't fit into the context of {context}");
    }
    let tokens = prompt_tokens(&model, prompt);
    let mut session = model.session()?;
    match adapters::load(&model, &args.adapters)?.as_slice() {
        [] => {}
        [only] => session.set_adapter(only.adapter.as_ref())?,
        _ => bail!("one adapter is measured at a time"),
    }
    let first = largest(session.extend(&tokens)?);
    let ttft_s = start.elapsed().as_secs_f64();

    session.reset();
    if args.depth > 0 {
        session.extend(&prompt_tokens(&model, args.depth))?;
    }
    if args.profile {
        session.start_profile();
    }
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat.get() {
        session.truncate(args.depth);
        decode.push(measure(|| decode_from(&mut session, first, generate))?);
    }
    for _ in 0..args.repeat.get() {
        session.reset();
        prefill.push(measure(|| session.extend(&tokens).map(drop))?);
    }
    // The probe's buffer is not the model's memory.
    let peak_rss_bytes = clock::peak_rss_bytes();
    let threads = NonZeroUsize::new(model.threads()).unwrap_or(NonZeroUsize::MIN);
    let bandwidth_gb_s = (!args.no_ceiling).then(|| bandwidth::read_gb_s(threads));
    let (prefill, decode) = (median(prefill), median(decode));
    let weights_bytes = model.weights_bytes();
    let has_answer = generate > 0;
    let decode_tok_s = has_answer.then(|| generate as f64 / decode.wall.as_secs_f64());
    let share = |(tok_s, gb_s): (f64, f64)| tok_s * weights_bytes as f64 / (gb_s * 1e9);
    let output = Output {
        model: args.model.name(),
        threads: threads.get(),
        prompt_tokens: prompt,
        generated_tokens: generate,
        depth: args.depth,
        repeat: args.repeat.get(),
        prefill_tok_s: prompt as f64 / prefill.wall.as_secs_f64(),
        decode_tok_s,
        prefill_cpu_ms_per_token: prefill.cpu.as_secs_f64() * 1e3 / prompt as f64,
        decode_cpu_ms_per_token: has_answer
            .then(|| decode.cpu.as_secs_f64() * 1e3 / generate as f64),
        load_s,
        ttft_s,
        peak_rss_bytes,
        weights_bytes,
        bandwidth_gb_s,
        ceiling_share: decode_tok_s.zip(bandwidth_gb_s).map(share),
        profile: session.profile(),
    };
    if args.json {
        text::show_json(&output)?;
    } else {
        text::show(&table(&output))?;
        if let Some(profile) = &output.profile {
            text::show(&format!("\n{}", profile::tables(profile)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tokens without meaning, the same each time, spread over the vocabulary: what they say does not change the work.
pub(super) fn prompt_tokens(model: &Model, count: usize) -> Vec<u32> {
    let vocab = u64::try_from(model.vocab_size()).unwrap_or(1).max(1);
    (1..=count as u64)
        .map(|index| u32::try_from(index.wrapping_mul(2_654_435_761) % vocab).unwrap_or(0))
        .collect()
}

fn decode_from(
    session: &mut Session,
    first: u32,
    count: usize,
) -> Result<(), furlong_runtime::Error> {
    let mut token = first;
    for _ in 0..count {
        token = largest(session.extend(&[token])?);
    }
    Ok(())
}

fn largest(logits: &[f32]) -> u32 {
    let best = argmax(Isa::detect(), logits).unwrap_or(0);
    u32::try_from(best).unwrap_or(0)
}

pub(super) fn measure(work: impl FnOnce() -> Result<(), furlong_runtime::Error>) -> Result<Cost> {
    let (wall, cpu) = (Instant::now(), clock::process_cpu());
    work()?;
    Ok(Cost {
        wall: wall.elapsed(),
        cpu: clock::process_cpu().saturating_sub(cpu),
    })
}

/// The median of each clock on its own; of an even number the slower of the two in the middle.
pub(super) fn median(costs: Vec<Cost>) -> Cost {
    let middle = |clock: fn(&Cost) -> Duration| {
        let mut times: Vec<Duration> = costs.iter().map(clock).collect();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    Cost {
        wall: middle(|cost| cost.wall),
        cpu: middle(|cost| cost.cpu),
    }
}

fn table(output: &Output) -> String {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let peak = output
        .peak_rss_bytes
        .map_or_else(|| "unknown".to_owned(), text::bytes);
    let weights = text::bytes(output.weights_bytes as u64);
    let speed = |tok_s, cpu_ms| format!("{tok_s:.1} tok/s   {cpu_ms:.2} CPU ms/tok");
    let mut rows = vec![
        row("threads", output.threads.to_string()),
        row(
            &format!("prompt of {}", output.prompt_tokens),
            speed(output.prefill_tok_s, output.prefill_cpu_ms_per_token),
        ),
    ];
    if let Some((tok_s, cpu_ms)) = output.decode_tok_s.zip(output.decode_cpu_ms_per_token) {
        let name = match output.depth {
            0 => format!("answer of {}", output.generated_tokens),
            depth => format!("answer of {} after {depth}", output.generated_tokens),
        };
        rows.push(row(&name, speed(tok_s, cpu_ms)));
    }
    rows.extend([
        row("load", format!("{:.3} s", output.load_s)),
        row("load to first token", format!("{:.3} s", output.ttft_s)),
        row("peak memory", peak),
        row("weights read a token", weights),
    ]);
    if let Some(bandwidth) = output.bandwidth_gb_s {
        rows.push(row("memory bandwidth", format!("{bandwidth:.1} GB/s")));
    }
    if let Some(share) = output.ceiling_share {
        rows.push(row(
            "share of the ceiling",
            format!("{:.0} %", share * 100.0),
        ));
    }
    text::pairs(&rows)
}
