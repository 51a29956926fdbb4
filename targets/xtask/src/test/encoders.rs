//! Encoders on emulated boards: all-MiniLM-L6-v2 gives the embeddings that `furlong embed` gives here, and a keyword-spotting
//! transformer the logits that ONNX Runtime gives.

use super::firmware::talk;
use super::host;
use super::report::Outcome;
use crate::board::Board;
use crate::flash::{self, Build};
use crate::models::{self, Base};
use crate::{packages, shell, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program for the boards.
const PROGRAM: &str = "encode";
/// The board that has room for a real encoder.
const ROOMY: &str = "virt-aarch64";
/// Boards of each kind of kernel, for a model of 30,000 weights.
const SMALL: [&str; 3] = ["mps2-an386", "mps3-an547", "virt-aarch64"];
/// What is embedded: punctuation, capitals, accents, a word of many tokens.
const SENTENCES: [&str; 4] = [
    "A cat sits on the mat.",
    "Naïve cafés, RÉSUMÉS & déjà-vu!",
    "antidisestablishmentarianism",
    "東京 is Tokyo",
];
/// How far an embedding may be away: the session adds up tokens in an order of its own.
const POOLED: f32 = 1e-6;
/// How far logits of 8-bit layers may be away from ONNX Runtime's, which does not round activations.
const ROUNDED: f32 = 0.1;

/// Runs all that.
pub fn boards() -> Result<Outcome> {
    packages::ensure(&[packages::EMULATORS])?;
    let furlong = host::furlong()?;
    let mut all = Outcome::default();
    let mut add = |what: &str, checked: Result<()>| {
        all.add(match checked.with_context(|| what.to_owned()) {
            Ok(()) => Outcome::passed(),
            Err(error) => Outcome::broken(&error),
        });
    };
    add(ROOMY, sentences(&furlong));
    for id in SMALL {
        add(id, keywords(&furlong, id));
    }
    Ok(all)
}

fn sentences(furlong: &Path) -> Result<()> {
    let model = models::export(&host::exporter()?, Base::MiniLm, "q8")?;
    let mut embed = Command::new(furlong);
    embed.args(["embed", "--json", "--model"]).arg(&model);
    let expected: Embeddings = serde_json::from_str(&shell::capture(embed.args(SENTENCES))?)?;
    let lines: String = SENTENCES.iter().map(|line| format!("{line}\n")).collect();
    let found = run(furlong, ROOMY, &model, &["--context", "64"], &lines)?;
    ensure!(
        found.len() == SENTENCES.len(),
        "{} embeddings of {} sentences",
        found.len(),
        SENTENCES.len()
    );
    for (sentence, (found, expected)) in
        SENTENCES.iter().zip(found.iter().zip(&expected.embeddings))
    {
        let worst = distance(found, &expected.vector)?;
        ensure!(worst <= POOLED, "{sentence:?} is {worst} away");
    }
    Ok(())
}

fn keywords(furlong: &Path, board: &str) -> Result<()> {
    let folder = workspace::root()?.join("tests/encoders");
    let text = fs::read_to_string(folder.join("pattern.json"))?;
    let expected: Pattern = serde_json::from_str(&text)?;
    let found = run(furlong, board, &folder.join("frames.onnx"), &[], "")?;
    let [logits] = found.as_slice() else {
        bail!("{} outputs of one matrix", found.len());
    };
    let worst = distance(logits, &expected.logits)?;
    ensure!(worst <= ROUNDED, "the logits are {worst} away");
    ensure!(
        largest(logits) == largest(&expected.logits),
        "another class: {logits:?}"
    );
    Ok(())
}

/// What `furlong embed --json` prints.
#[derive(Deserialize)]
struct Embeddings {
    embeddings: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    vector: Vec<f32>,
}

/// What ONNX Runtime makes of the pattern of features that the program on the board makes, too.
#[derive(Deserialize)]
struct Pattern {
    logits: Vec<f32>,
}

/// One line of a board's answers.
#[derive(Deserialize)]
struct Output {
    bits: Vec<String>,
}

/// The outputs of a model on a board.
fn run(
    furlong: &Path,
    board: &str,
    model: &Path,
    options: &[&str],
    lines: &str,
) -> Result<Vec<Vec<f32>>> {
    let board = Board::load(board)?;
    let plan = plan(furlong, &board, model, options)?;
    let build = Build {
        plan: Some(&plan),
        ..Build::default()
    };
    let program = flash::program(&board, PROGRAM, &build)?;
    let (answers, _) = talk(&mut flash::watch_emulated(&board, &program, None)?, lines)?;
    let outputs = answers.lines().filter(|line| line.starts_with('{'));
    let read = |line: &str| {
        let output: Output = serde_json::from_str(line)?;
        let bits = output.bits.iter().map(|bits| u32::from_str_radix(bits, 16));
        Ok(bits
            .map(|bits| bits.map(f32::from_bits))
            .collect::<Result<_, _>>()?)
    };
    outputs.map(read).collect()
}

fn plan(furlong: &Path, board: &Board, model: &Path, options: &[&str]) -> Result<PathBuf> {
    let folder = workspace::target()?.join("firmware");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}-encoder.plan", board.id));
    let mut command = Command::new(furlong);
    command.arg("plan").arg(model);
    command.args(["--board", &board.id]).args(options);
    shell::quiet(command.arg("--out").arg(&file))?;
    Ok(file)
}

fn distance(found: &[f32], expected: &[f32]) -> Result<f32> {
    ensure!(
        found.len() == expected.len(),
        "{} numbers, not {}",
        found.len(),
        expected.len()
    );
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // Not a number is as far away as can be.
    Ok(apart.fold(0.0, |worst, d| if d <= worst { worst } else { d }))
}

fn largest(numbers: &[f32]) -> Option<usize> {
    let all = numbers.iter().enumerate();
    all.max_by(|a, b| a.1.total_cmp(b.1))
        .map(|(index, _)| index)
}
