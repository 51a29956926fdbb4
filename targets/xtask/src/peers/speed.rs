//! Reading a prompt and decoding: time a token of every peer, on the processors and on the clock.

use super::entrants::{self, SPEED, Work};
use super::samples::{Entrant, Pair, in_turns, ratio_table};
use super::{Options, Section};
use crate::board::Builder;
use crate::models::{self, Base};
use crate::{build, python, workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Tokens of the prompt.
const PROMPT: usize = 128;
/// Tokens decoded.
const DECODED: usize = 64;

/// Each peer's weights.
const FURLONG: [&str; 4] = ["q4", models::PACKED, "q8", "f32"];
const ONNX_RUNTIME: [&str; 4] = FURLONG;
const STOCK_TRACT: [&str; 3] = [models::FOUR_BITS, "q8", "f32"];
const LLAMA: [&str; 4] = ["Q4_0", "Q4_1", "Q8_0", "F32"];
/// Which of ours is compared with which of llama.cpp's, and with the best of which of ONNX Runtime's.
const COMPARED: [(&str, &str, &[&str]); 3] = [
    ("q4", "Q4_0", &["q4", models::PACKED]),
    ("q8", "Q8_0", &["q8"]),
    ("f32", "F32", &["f32"]),
];

/// Measures and compares.
///
/// # Errors
/// When a peer can't be built. One that can't run a model is listed with its reason.
pub fn compare(options: &Options) -> Result<Section> {
    let exporter = models::exporter(&Builder::Host)?;
    let program = build::furlong(&Builder::Host)?;
    let stock = Builder::Host.programs("build", &["--bin", "stock-tract"])?;
    let stock = stock
        .into_iter()
        .find(|program| program.name == "stock-tract")
        .context("no stock-tract was built")?
        .path;
    let script = workspace::root()?.join("targets/xtask/peers/onnxruntime_speed.py");
    let onnxruntime = [python::peers()?, script];
    let stock = [stock];

    let mut entrants = Vec::new();
    let mut pairs = Vec::new();
    for &threads in &options.threads {
        let work = Work {
            prompt: PROMPT,
            decoded: DECODED,
            depth: 0,
            threads,
        };
        for weights in FURLONG {
            let ours = (
                program.clone(),
                models::export(&exporter, Base::SmolLm2, weights)?,
            );
            entrants.push(Entrant::new(
                work.name(&format!("furlong {weights}")),
                move || entrants::furlong(&ours.0, &ours.1, work),
            ));
        }
        let scripts: [(&str, &[PathBuf], &[&str]); 2] = [
            ("ONNX Runtime", &onnxruntime, &ONNX_RUNTIME),
            ("stock tract", &stock, &STOCK_TRACT),
        ];
        for (peer, command, formats) in scripts {
            for weights in formats {
                let model = models::export(&exporter, Base::SmolLm2, weights)?;
                entrants.push(Entrant::new(
                    work.name(&format!("{peer} {weights}")),
                    move || entrants::script(command, &model, work),
                ));
            }
        }
        for format in LLAMA {
            let (program, model) = entrants::llama_model(format)?;
            entrants.push(Entrant::new(
                work.name(&format!("llama.cpp {format}")),
                move || entrants::llama(&program, &model, work),
            ));
        }
        let named = |peer: &str, weights: &[&str]| -> Vec<String> {
            let names = weights.iter();
            names
                .map(|weights| work.name(&format!("{peer} {weights}")))
                .collect()
        };
        for (weights, llama, onnxruntime) in COMPARED {
            let ours = work.name(&format!("furlong {weights}"));
            let theirs = [
                named("llama.cpp", &[llama]),
                named("ONNX Runtime", onnxruntime),
                named("stock tract", &STOCK_TRACT),
            ];
            pairs.extend(theirs.map(|theirs| Pair {
                ours: ours.clone(),
                theirs,
            }));
        }
    }
    let samples = in_turns("speed", options.rounds, &entrants);
    let ratios = samples.ratios(&pairs, &SPEED);
    let title = format!("prompt of {PROMPT}, {DECODED} decoded, a token");
    let text = samples.table(&title, &SPEED) + &ratio_table(&ratios, &SPEED);
    Section::new(text, &(samples, ratios))
}
