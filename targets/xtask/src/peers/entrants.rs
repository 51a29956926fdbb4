//! How each peer is asked for its speed on SmolLM2.

use super::llama;
use super::process::{self, Ran, number};
use super::samples::{Figures, median};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is measured, as [`Figures`] name it, with titles.
pub const SPEED: [(&str, &str); 4] = [
    ("prefill_cpu_ms", "prompt, CPU ms"),
    ("prefill_ms", "prompt, ms"),
    ("decode_cpu_ms", "decode, CPU ms"),
    ("decode_ms", "decode, ms"),
];

/// Tokens to read and to write, and with how many threads.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded.
    pub decoded: usize,
    /// Tokens in the cache before those decoded.
    pub depth: usize,
    /// Threads.
    pub threads: usize,
}

impl Work {
    /// A name for a peer that does this.
    pub fn name(&self, peer: &str) -> String {
        match self.threads {
            1 => format!("{peer}, 1 thread"),
            threads => format!("{peer}, {threads} threads"),
        }
    }
}

/// What `furlong bench` says.
///
/// # Errors
/// When it fails.
pub fn furlong(program: &Path, model: &Path, work: Work) -> Result<Figures> {
    let mut command = Command::new(program);
    command
        .args(["bench", "--json", "--no-ceiling", "--repeat", "2"])
        .args(["-p", &work.prompt.to_string()])
        .args(["-n", &work.decoded.to_string()])
        .args(["--depth", &work.depth.to_string()])
        .args(["--threads", &work.threads.to_string()])
        .arg("--model")
        .arg(model);
    let said = process::run(&command)?.json()?;
    let wall = |field| Ok::<f64, anyhow::Error>(1e3 / number(&said, field)?);
    Ok(vec![
        ("prefill_cpu_ms", number(&said, "prefill_cpu_ms_per_token")?),
        ("prefill_ms", wall("prefill_tok_s")?),
        ("decode_cpu_ms", number(&said, "decode_cpu_ms_per_token")?),
        ("decode_ms", wall("decode_tok_s")?),
    ])
}

/// What llama-bench says; its processor time, which it doesn't tell, is what more repetitions cost more.
///
/// # Errors
/// When it fails.
pub fn llama(program: &Path, model: &Path, work: Work) -> Result<Figures> {
    let one = |work: Work, more: usize| -> Result<[f64; 2]> {
        let tokens = (work.prompt + work.decoded) as f64;
        let once = process::run(&llama_bench(program, model, work, 1))?;
        let often = process::run(&llama_bench(program, model, work, 1 + more))?;
        let cpu_s = (often.cpu_s - once.cpu_s) / more as f64;
        Ok([cpu_s * 1e3 / tokens, llama_ms(&often)? / tokens])
    };
    // Loading takes as long as some repetitions, and not the same each time: many keep it small.
    let [prefill_cpu, prefill] = one(Work { decoded: 0, ..work }, 8)?;
    let [decode_cpu, decode] = one(Work { prompt: 0, ..work }, 4)?;
    Ok(vec![
        ("prefill_cpu_ms", prefill_cpu),
        ("prefill_ms", prefill),
        ("decode_cpu_ms", decode_cpu),
        ("decode_ms", decode),
    ])
}

/// Milliseconds on the clock that llama-bench needs for a decoded token.
///
/// # Errors
/// When it fails.
pub fn llama_decode_ms(program: &Path, model: &Path, work: Work) -> Result<f64> {
    let ran = process::run(&llama_bench(program, model, Work { prompt: 0, ..work }, 2))?;
    Ok(llama_ms(&ran)? / work.decoded as f64)
}

/// The median of llama-bench's repetitions, in milliseconds.
fn llama_ms(ran: &Ran) -> Result<f64> {
    let said = ran.json()?;
    let samples = said[0]["samples_ns"].as_array().into_iter().flatten();
    let samples: Option<Vec<f64>> = samples.map(Value::as_f64).collect();
    Ok(median(&samples.context("llama-bench gave no samples_ns")?) / 1e6)
}

/// The command line of llama-bench; one of prompt and decoded tokens is 0.
pub fn llama_bench(program: &Path, model: &Path, work: Work, repetitions: usize) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-o", "json", "-t", &work.threads.to_string()])
        .args(["-p", &work.prompt.to_string()])
        .args(["-n", &work.decoded.to_string()])
        .args(["-d", &work.depth.to_string()])
        .args(["-r", &repetitions.to_string(), "-m"])
        .arg(model);
    command
}

/// What a script or program of ours says that takes a model, the numbers of tokens and of threads, and prints [`SPEED`].
///
/// # Errors
/// When it fails.
pub fn script(command: &[PathBuf], model: &Path, work: Work) -> Result<Figures> {
    let (program, arguments) = command.split_first().context("a peer needs a program")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(model)
        .args([work.prompt, work.decoded, work.threads].map(|number| number.to_string()));
    let said = process::run(&command)?.json()?;
    SPEED
        .iter()
        .map(|(figure, _)| Ok((*figure, number(&said, figure)?)))
        .collect()
}

/// llama-bench and SmolLM2 in one of llama.cpp's formats.
///
/// # Errors
/// When one of the two can't be made.
pub fn llama_model(format: &str) -> Result<(PathBuf, PathBuf)> {
    Ok((llama::build()?.join("llama-bench"), llama::model(format)?))
}
