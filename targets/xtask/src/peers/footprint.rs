//! What a user notices before the first word: how long loading takes, when the first token comes, how much memory it costs.

use super::process::{self, Ran, number};
use super::samples::{Entrant, Figures, Pair, in_turns, ratio_table};
use super::{Options, Section, llama};
use crate::board::Builder;
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

const FIGURES: [(&str, &str); 4] = [
    ("load_ms", "load, ms"),
    ("first_token_ms", "start to first token, ms"),
    ("first_token_cpu_ms", "the same, CPU ms"),
    ("peak_rss_mib", "peak memory, MiB"),
];

/// Measures and compares, with one thread.
///
/// # Errors
/// When a peer can't be built.
pub fn compare(options: &Options) -> Result<Section> {
    let exporter = models::exporter(&Builder::Host)?;
    let program = build::furlong(&Builder::Host)?;
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
    let load = ("load_ms", number(&first.json()?, "load_s")? * 1e3);
    Ok(figures(load, &first, &filled))
}

fn llama_cpp(program: &Path, model: &Path) -> Result<Figures> {
    let run = |tokens: &str| {
        let mut command = Command::new(program);
        // Without its warm-up and its look at what memory there is: who waits for one answer can do without.
        command
            .args(["-no-cnv", "--no-display-prompt", "--no-warmup"])
            .args(["-fit", "off", "--ignore-eos", "--temp", "0", "-t", "1"])
            .args(["-c", CONTEXT, "-n", tokens, "-p", PROMPT, "-m"])
            .arg(model);
        process::run(&command)
    };
    let filled = run(FILLING)?;
    let first = run("1")?;
    let load = (
        "load_ms",
        llama_load_ms(&first.stderr)
            .context("llama-completion's log doesn't tell when it loads")?,
    );
    Ok(figures(load, &first, &filled))
}

/// Milliseconds from the line of llama.cpp's log that says that the model is loaded to the one that follows it. Lines start with
/// minutes, seconds, milliseconds and microseconds: `0.00.915.637`. (The «load time» at its end is none.)
fn llama_load_ms(log: &str) -> Option<f64> {
    let at = |text: &str| {
        let line = log.lines().find(|line| line.contains(text))?;
        let parts: Vec<f64> = line
            .split_whitespace()
            .next()?
            .split('.')
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        match parts.as_slice() {
            [minutes, seconds, ms, us] => Some((minutes * 60.0 + seconds) * 1e3 + ms + us / 1e3),
            _ => None,
        }
    };
    Some(at("threadpool init")? - at("load the model")?)
}

/// What both are asked for. The first token is the only one of its run, whose end comes right after it.
fn figures(load: (&'static str, f64), first: &Ran, filled: &Ran) -> Figures {
    let first_s = first.first_output_s.unwrap_or(f64::NAN);
    vec![
        load,
        ("first_token_ms", first_s * 1e3),
        ("first_token_cpu_ms", first.cpu_s * 1e3),
        ("peak_rss_mib", filled.peak_rss_bytes / f64::from(1 << 20)),
    ]
}

#[cfg(test)]
mod tests {
    use super::llama_load_ms;

    #[test]
    fn loading_is_read_from_the_times_of_the_log() {
        let log = "0.00.005.193 I llama_completion: load the model and apply lora adapter, if any\n\
                   0.01.015.693 I cmn          init: llama threadpool init, n_threads = 1\n";
        let found = llama_load_ms(log).expect("both lines");
        assert!((found - 1010.5).abs() < 1e-9, "{found}");
        assert!(llama_load_ms("0.00.005 I load the model").is_none());
    }
}
