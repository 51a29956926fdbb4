//! What a user notices before the first word: how long loading takes, when the first token comes, how much memory it costs.

use super::process::{self, number};
use super::samples::{Entrant, Figures, Pair, in_turns, ratio_table};
use super::{Options, Section, llama};
use crate::board::Board;
use crate::build;
use crate::models::{self, Base};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// Five tokens.
const PROMPT: &str = "The capital of France is";
/// The context, filled when memory is measured.
const CONTEXT: &str = "512";
/// Tokens that fill it.
const FILLING: &str = "506";

const FIGURES: [(&str, &str); 3] = [
    ("load_ms", "load, ms"),
    ("first_token_ms", "start to first token, ms"),
    ("peak_rss_mib", "peak memory, MiB"),
];

/// Measures and compares, with one thread.
///
/// # Errors
/// When a peer can't be built.
pub fn compare(options: &Options) -> Result<Section> {
    let exporter = models::exporter()?;
    let program = build::furlong(&Board::load("host")?)?;
    let completion = llama::build()?.join("llama-completion");
    let mut entrants = Vec::new();
    let mut pairs = Vec::new();
    for (weights, format) in [("q4", "Q4_0"), ("q8", "Q8_0")] {
        let model = models::export(&exporter, Base::SmolLm2, weights)?;
        let program = program.clone();
        let names = [format!("furlong {weights}"), format!("llama.cpp {format}")];
        entrants.push(Entrant::new(&names[0], move || furlong(&program, &model)));
        let (completion, model) = (completion.clone(), llama::model(format)?);
        entrants.push(Entrant::new(&names[1], move || {
            llama_cpp(&completion, &model)
        }));
        pairs.push(Pair::new(&names[0], &names[1]));
    }
    let samples = in_turns("footprint", options.rounds, &entrants);
    let ratios = samples.ratios(&pairs, &FIGURES);
    let title = format!("one thread, context of {CONTEXT}, prompt of 5");
    let text = samples.table(&title, &FIGURES) + &ratio_table(&ratios, &FIGURES);
    Section::new(text, &(samples, ratios))
}

fn furlong(program: &Path, model: &Path) -> Result<Figures> {
    let run = |tokens: &str| {
        let mut command = Command::new(program);
        command
            .args(["run", "--json", "--raw", "--ignore-eos", "--threads", "1"])
            .args(["--context", CONTEXT, "--max-tokens", tokens])
            .arg("--model")
            .arg(model)
            .arg(PROMPT);
        process::run(&command)
    };
    // The longer run comes first: it also makes the packed weights, should they not be there.
    let filled = run(FILLING)?;
    let first = run("1")?;
    Ok(vec![
        ("load_ms", number(&first.json()?, "load_s")? * 1e3),
        ("first_token_ms", first_token(&first)?),
        ("peak_rss_mib", filled.peak_rss_bytes / f64::from(1 << 20)),
    ])
}

fn llama_cpp(program: &Path, model: &Path) -> Result<Figures> {
    let run = |tokens: &str| {
        let mut command = Command::new(program);
        // Without its warm-up, which is a second load to who waits for one answer.
        command
            .args(["-no-cnv", "--no-display-prompt", "--no-warmup", "--perf"])
            .args(["--ignore-eos", "--temp", "0", "-t", "1"])
            .args(["-c", CONTEXT, "-n", tokens, "-p", PROMPT, "-m"])
            .arg(model);
        process::run(&command)
    };
    let filled = run(FILLING)?;
    let first = run("1")?;
    let said = first.stderr.split_once("load time =");
    let load: Option<f64> = said.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    Ok(vec![
        (
            "load_ms",
            load.context("llama-completion tells no load time")?,
        ),
        ("first_token_ms", first_token(&first)?),
        ("peak_rss_mib", filled.peak_rss_bytes / f64::from(1 << 20)),
    ])
}

fn first_token(ran: &process::Ran) -> Result<f64> {
    Ok(ran.first_output_s.context("it wrote nothing")? * 1e3)
}
