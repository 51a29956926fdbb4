//! Sentence embeddings: MiniLM as ONNX Runtime's quantiser makes it, and as we export it, one sentence at a time.

use super::process::{self, number};
use super::samples::{Entrant, Figures, Pair, in_turns, ratio_table};
use super::{Options, Section};
use crate::board::Builder;
use crate::models::{self, Base};
use crate::test::parity;
use crate::{build, python, workspace};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Tokens of the sentence.
const LENGTHS: [usize; 2] = [32, 128];
const FIGURES: [(&str, &str); 2] = [("encode_cpu_ms", "CPU ms"), ("encode_ms", "ms")];

/// Measures and compares, with one thread.
///
/// # Errors
/// When a model or a peer can't be made.
pub fn compare(options: &Options) -> Result<Section> {
    // The quantiser's file is one of the references of the tests.
    parity::prepare()?;
    let int8 = models::folder()?.join("references/minilm/int8.onnx");
    let exporter = models::exporter(&Builder::Host)?;
    let f32 = models::export(&exporter, Base::MiniLm, "f32")?;
    let q8 = models::export(&exporter, Base::MiniLm, "q8")?;
    let program = build::furlong(&Builder::Host)?;
    let script = workspace::root()?.join("targets/xtask/peers/onnxruntime_encoder.py");
    let python = python::peers()?;

    let mut entrants = Vec::new();
    let mut pairs = Vec::new();
    for length in LENGTHS {
        let name = |peer: &str, weights: &str| format!("{peer} {weights}, {length} tokens");
        for (weights, model) in [("int8", &int8), ("q8", &q8), ("f32", &f32)] {
            let program = &program;
            entrants.push(Entrant::new(name("furlong", weights), move || {
                furlong(program, model, length)
            }));
        }
        for (weights, model) in [("int8", &int8), ("f32", &f32)] {
            let (python, script) = (&python, &script);
            entrants.push(Entrant::new(name("ONNX Runtime", weights), move || {
                onnxruntime(python, script, model, length)
            }));
        }
        for (ours, theirs) in [("int8", "int8"), ("q8", "int8"), ("f32", "f32")] {
            pairs.push(Pair::new(
                name("furlong", ours),
                name("ONNX Runtime", theirs),
            ));
        }
    }
    let samples = in_turns("encoder", options.rounds, &entrants);
    let ratios = samples.ratios(&pairs, &FIGURES);
    let text =
        samples.table("MiniLM, one thread, a sentence", &FIGURES) + &ratio_table(&ratios, &FIGURES);
    Section::new(text, &(samples, ratios))
}

fn furlong(program: &Path, model: &Path, tokens: usize) -> Result<Figures> {
    let mut command = Command::new(program);
    command
        .args(["bench", "--json", "--threads", "1"])
        .args(["-p", &tokens.to_string(), "--model"])
        .arg(model);
    figures(&command)
}

fn onnxruntime(python: &Path, script: &Path, model: &Path, tokens: usize) -> Result<Figures> {
    let mut command = Command::new(python);
    command.arg(script).arg(model).arg(tokens.to_string());
    figures(&command)
}

/// Both print the same fields; the clock's may be missing.
fn figures(command: &Command) -> Result<Figures> {
    let said = process::run(command)?.json()?;
    let [cpu, wall] = FIGURES.map(|(figure, _)| figure);
    let mut figures = vec![(cpu, number(&said, cpu)?)];
    figures.extend(said[wall].as_f64().map(|value| (wall, value)));
    Ok(figures)
}
