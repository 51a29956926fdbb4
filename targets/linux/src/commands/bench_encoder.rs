//! `furlong bench` of a model that embeds: how long one sentence takes, alone.

use std::time::Instant;

use anyhow::{Result, bail};
use furlong::machine::clock;
use furlong_runtime::Model;
use serde::Serialize;

use super::bench::{BenchArgs, Cost, measure, median, prompt_tokens};
use crate::text;

/// Embeddings of a measurement: one alone is over in milliseconds.
const EMBEDDINGS: usize = 7;
/// Embeddings before anything is measured.
const WARM_UP: usize = 3;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    model: String,
    threads: usize,
    /// Tokens of the sentence.
    tokens: usize,
    repeat: usize,
    /// Milliseconds on the clock.
    encode_ms: f64,
    /// Milliseconds on the processors.
    encode_cpu_ms: f64,
    /// Seconds to load the model.
    load_s: f64,
    peak_rss_bytes: Option<u64>,
    /// Bytes of weights read for one sentence.
    weights_bytes: usize,
}

/// Measures an encoder that was loaded from `start` on.
///
/// # Errors
/// Whatever keeps the model from embedding.
pub(super) fn run(args: &BenchArgs, model: &Model, start: Instant) -> Result<()> {
    let load_s = start.elapsed().as_secs_f64();
    let tokens = args.prompt();
    if tokens > model.context_length() {
        let context = model.context_length();
        bail!("{tokens} tokens don't fit into the context of {context}");
    }
    let sentence = [prompt_tokens(model, tokens)];
    let embed = || model.encode(&sentence).map(drop);
    for _ in 0..WARM_UP {
        embed()?;
    }
    let costs: Vec<Cost> = (0..args.repeat() * EMBEDDINGS)
        .map(|_| measure(embed))
        .collect::<Result<_>>()?;
    let cost = median(costs);
    let output = Output {
        model: args.model(),
        threads: model.threads(),
        tokens,
        repeat: args.repeat(),
        encode_ms: cost.wall.as_secs_f64() * 1e3,
        encode_cpu_ms: cost.cpu.as_secs_f64() * 1e3,
        load_s,
        peak_rss_bytes: clock::peak_rss_bytes(),
        weights_bytes: model.weights_bytes(),
    };
    if args.json() {
        text::show_json(&output)?;
    } else {
        text::show(&table(&output))?;
    }
    Ok(())
}

fn table(output: &Output) -> String {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let peak = output
        .peak_rss_bytes
        .map_or_else(|| "unknown".to_owned(), text::bytes);
    text::pairs(&[
        row("threads", output.threads.to_string()),
        row(
            &format!("sentence of {}", output.tokens),
            format!(
                "{:.2} ms   {:.2} CPU ms",
                output.encode_ms, output.encode_cpu_ms
            ),
        ),
        row("load", format!("{:.3} s", output.load_s)),
        row("peak memory", peak),
        row("weights", text::bytes(output.weights_bytes as u64)),
    ])
}
