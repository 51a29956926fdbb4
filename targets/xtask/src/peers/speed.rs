//! CPU time a token with one thread: reading a prompt and decoding, every peer in turns so that drift of the machine
//! hits all alike.

use super::llama;
use crate::board::{Board, Builder};
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{build, python, workspace};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tokens of the prompt.
const PROMPT: usize = 128;
/// Tokens decoded, after a prompt of eight.
const DECODED: usize = 64;
/// How often each peer has its turn.
const ROUNDS: usize = 5;

/// CPU milliseconds a token.
#[derive(Debug, Clone, Copy)]
struct Cost {
    prefill: f64,
    decode: f64,
}

/// A program to measure.
enum Peer {
    Furlong {
        program: PathBuf,
        model: PathBuf,
    },
    Llama {
        program: PathBuf,
        model: PathBuf,
    },
    /// Something that takes a model folder and two numbers and prints `{"prefill": …, "decode": …}`.
    Script {
        command: Vec<PathBuf>,
        model: PathBuf,
    },
}

/// Prints the table of medians.
///
/// # Errors
/// When a peer can't be built. One that can't run a model is listed with its reason.
pub fn compare() -> Result<()> {
    let peers = peers()?;
    let mut costs: Vec<Vec<Result<Cost>>> = peers.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        say(format!("peers: speed, round {} of {ROUNDS}", round + 1));
        for ((_, peer), costs) in peers.iter().zip(&mut costs) {
            // What can't run once won't run the next time.
            if costs.first().is_none_or(|first| first.is_ok()) {
                costs.push(peer.cost());
            }
        }
    }
    println!(
        "\n| one thread, CPU ms a token | prompt of {PROMPT} | decode | spread of decode |\n|---|---:|---:|---:|"
    );
    for ((name, _), costs) in peers.iter().zip(costs) {
        match costs.into_iter().collect::<Result<Vec<Cost>>>() {
            Ok(costs) => {
                let (prefill, _) = median(costs.iter().map(|cost| cost.prefill).collect());
                let (decode, spread) = median(costs.iter().map(|cost| cost.decode).collect());
                println!(
                    "| {name} | {prefill:.2} | {decode:.2} | ±{:.0} % |",
                    spread / decode * 50.0
                );
            }
            Err(error) => {
                let reason = format!("{error:#}");
                println!(
                    "| {name} | – | – | {} |",
                    reason.lines().last().unwrap_or_default().trim()
                );
            }
        }
    }
    Ok(())
}

fn peers() -> Result<Vec<(String, Peer)>> {
    let exporter = models::exporter()?;
    let furlong = build::furlong(&Board::load("host")?)?;
    let stock = Builder::Host.programs("build", &["--bin", "stock-tract"])?;
    let stock = stock
        .into_iter()
        .find(|program| program.name == "stock-tract")
        .context("no stock-tract was built")?
        .path;
    let script = workspace::root()?.join("targets/xtask/peers/onnxruntime_speed.py");
    let python = python::peers()?;
    let mut peers = Vec::new();
    for weights in ["q4", models::PACKED, "q8", "f32"] {
        let model = models::export(&exporter, Base::SmolLm2, weights)?;
        peers.push((
            format!("furlong {weights}"),
            Peer::Furlong {
                program: furlong.clone(),
                model: model.clone(),
            },
        ));
        let command = vec![python.clone(), script.clone()];
        peers.push((
            format!("ONNX Runtime {weights}"),
            Peer::Script {
                command,
                model: model.clone(),
            },
        ));
        peers.push((
            format!("stock tract {weights}"),
            Peer::Script {
                command: vec![stock.clone()],
                model,
            },
        ));
    }
    let program = llama::build()?.join("llama-bench");
    for format in ["Q4_0", "Q4_1", "Q8_0", "F32"] {
        peers.push((
            format!("llama.cpp {format}"),
            Peer::Llama {
                program: program.clone(),
                model: llama::model(format)?,
            },
        ));
    }
    Ok(peers)
}

impl Peer {
    fn cost(&self) -> Result<Cost> {
        match self {
            Self::Furlong { program, model } => {
                let field = |prompt: usize, decoded: usize, name: &str| -> Result<f64> {
                    let mut command =
                        shell::command(program, ["bench", "--json", "--threads", "1", "--model"]);
                    command.arg(model).args([
                        "-p",
                        &prompt.to_string(),
                        "-n",
                        &decoded.to_string(),
                    ]);
                    number(&shell::capture(&mut command)?, name)
                };
                Ok(Cost {
                    prefill: field(PROMPT, 1, "prefill_cpu_ms_per_token")?,
                    decode: field(8, DECODED, "decode_cpu_ms_per_token")?,
                })
            }
            Self::Llama { program, model } => Ok(Cost {
                prefill: llama_cost(program, model, ["-p", "-n"], PROMPT, 4)?,
                decode: llama_cost(program, model, ["-n", "-p"], DECODED, 2)?,
            }),
            Self::Script { command, model } => {
                let (program, arguments) =
                    command.split_first().context("a peer needs a program")?;
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .arg(model)
                    .args([PROMPT.to_string(), DECODED.to_string()]);
                let said = shell::capture(&mut command)?;
                Ok(Cost {
                    prefill: number(&said, "prefill")?,
                    decode: number(&said, "decode")?,
                })
            }
        }
    }
}

/// llama-bench tells wall time only: its CPU time is what more repetitions cost more.
fn llama_cost(
    program: &Path,
    model: &Path,
    [wanted, other]: [&str; 2],
    tokens: usize,
    more: usize,
) -> Result<f64> {
    let cpu = |repetitions: usize| -> Result<f64> {
        let before = children_cpu_ms()?;
        let mut command = shell::command(program, ["-t", "1", "-o", "json", wanted]);
        command
            .args([
                &tokens.to_string(),
                other,
                "0",
                "-r",
                &repetitions.to_string(),
                "-m",
            ])
            .arg(model);
        shell::quiet(&mut command)?;
        Ok(children_cpu_ms()? - before)
    };
    let once = cpu(1)?;
    Ok((cpu(1 + more)? - once) / (more * tokens) as f64)
}

/// CPU time of all programs that this one has run to their end.
fn children_cpu_ms() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The second field is the program's name in brackets; fields 16 and 17 are the children's time in hundredths of a second.
    let rest = text
        .rsplit_once(')')
        .context("/proc/self/stat names no program")?
        .1;
    let ticks = rest
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(|field| field.parse::<f64>());
    Ok(ticks
        .sum::<Result<f64, _>>()
        .context("reading /proc/self/stat")?
        * 10.0)
}

fn number(json: &str, field: &str) -> Result<f64> {
    let line = json.trim().lines().last().unwrap_or_default();
    let value: Value = serde_json::from_str(json.trim()).or_else(|_| serde_json::from_str(line))?;
    value[field]
        .as_f64()
        .with_context(|| format!("no {field} in {line}"))
}

/// The median, and the distance between the smallest and the largest.
fn median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let spread = values
        .last()
        .zip(values.first())
        .map_or(0.0, |(last, first)| last - first);
    (
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN),
        spread,
    )
}
