//! Real models against ONNX Runtime and between processors. What the tests in `tests/` read is made here: exports and
//! references under one folder, which `FURLONG_MODELS` names.

use super::report::{self, Outcome};
use super::{exports, host};
use crate::board::Board;
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{fetch, python, workspace};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How far a quantised model's perplexity may lie above that of f32, in per cent.
const PERPLEXITY_BOUNDS: [(&str, f64); 2] = [("q8", 0.5), ("q4", 6.0)];
/// Windows of 512 tokens of the English text, some half of it.
const PERPLEXITY_WINDOWS: u32 = 25;

/// Tells tests where the models are.
pub fn environment(command: &mut Command) -> Result<()> {
    command.env("FURLONG_MODELS", models::folder()?);
    Ok(())
}

/// Fetches and exports the models, and lets ONNX Runtime say what it makes of them.
pub fn prepare() -> Result<Outcome> {
    let exporter = host::exporter()?;
    let decoder = models::export(&exporter, Base::SmolLm2, "f32")?;
    models::export(&exporter, Base::SmolLm2, "q8")?;
    models::export(&exporter, Base::SmolLm2, "q4")?;
    let encoder = models::export(&exporter, Base::MiniLm, "f32")?;
    let references = models::folder()?.join("references");
    reference(
        "decoder_reference.py",
        &decoder,
        &references.join("smollm2.safetensors"),
    )?;
    reference("encoder_reference.py", &encoder, &references.join("minilm"))?;
    Ok(Outcome::passed())
}

/// Every export judged by others, and the tests on real models, on this machine; what the quantised models give here is recorded for the other processors.
pub fn host() -> Result<Outcome> {
    let mut all = exports::check()?;
    prepare()?;
    let mut record = tests("smollm2")?;
    report::rust_tests(
        "record",
        record.arg("is_the_same").env("FURLONG_RECORD", "1"),
    )?;
    for (suite, file) in [
        ("parity-smollm2", "smollm2"),
        ("parity-minilm", "minilm"),
        ("resident", "resident"),
    ] {
        all.add(report::rust_tests(suite, &mut tests(file)?)?);
    }
    Ok(all)
}

/// The same tokens as on this machine: everything on an emulated Cortex-A76, the quantised models on an A53.
pub fn aarch64() -> Result<Outcome> {
    prepare()?;
    let mut all = Outcome::default();
    for (board, filter) in [("cortex-a76", ""), ("cortex-a53", "is_the_same")] {
        let board = Board::load(board)?;
        let programs = board
            .builder()?
            .programs("test", &["--test", "smollm2", "--no-run"])?;
        let program = programs
            .into_iter()
            .find(|program| program.is_test)
            .context("the build gave no test program")?;
        let mut command = board.command(&program.path, &[])?;
        command
            .args(["--ignored", filter])
            .current_dir(&program.package);
        environment(&mut command)?;
        all.add(report::rust_tests(
            &format!("parity-{}", board.id),
            &mut command,
        )?);
    }
    Ok(all)
}

/// Perplexity of the quantised models against that of f32.
pub fn perplexity() -> Result<Outcome> {
    let exporter = host::exporter()?;
    let program = host::furlong()?;
    let text = fetch::english_text()?;
    let mut all = Outcome::passed();
    let windows = Some(PERPLEXITY_WINDOWS);
    let folder = models::export(&exporter, Base::SmolLm2, "f32")?;
    let base = perplexity_of(&program, &folder, &text, windows)?;
    all.notes.push(format!(
        "perplexity f32 {:.4} over {} tokens",
        base.perplexity, base.tokens
    ));
    for (weights, bound) in PERPLEXITY_BOUNDS {
        let folder = models::export(&exporter, Base::SmolLm2, weights)?;
        let found = perplexity_of(&program, &folder, &text, windows)?;
        let worse = (found.perplexity / base.perplexity - 1.0) * 100.0;
        all.notes.push(format!(
            "perplexity {weights} {:.4}: {worse:+.2} % (bound {bound} %)",
            found.perplexity
        ));
        // A perplexity that isn't a number fails too.
        if worse <= bound {
            all.passed += 1
        } else {
            all.failed += 1
        }
    }
    Ok(all)
}

/// What `furlong perplexity --json` says.
#[derive(Debug, Deserialize)]
pub struct Perplexity {
    /// The perplexity.
    pub perplexity: f64,
    /// Tokens of the text.
    pub tokens: usize,
}

/// Runs `furlong perplexity`, on the whole text or on so many windows of it.
///
/// # Errors
/// When it fails.
pub fn perplexity_of(
    program: &Path,
    model: &Path,
    text: &Path,
    windows: Option<u32>,
) -> Result<Perplexity> {
    let mut command = Command::new(program);
    command
        .args(["perplexity", "--json", "--model"])
        .arg(model)
        .arg("--text")
        .arg(text);
    if let Some(windows) = windows {
        command.args(["--windows", &windows.to_string()]);
    }
    let said = shell::capture(&mut command)?;
    serde_json::from_str(said.trim())
        .with_context(|| format!("reading what furlong perplexity said: {said}"))
}

/// The ignored tests of one file in `tests/tests`: those that read models.
fn tests(file: &str) -> Result<Command> {
    let mut command = host::BUILDER.cargo("test")?;
    command.args(["--test", file, "--", "--ignored"]);
    environment(&mut command)?;
    Ok(command)
}

/// Lets a script in `tests/parity` write its reference for a model, unless the script and the model are as they were.
fn reference(script: &str, model: &Path, out: &Path) -> Result<()> {
    let script = workspace::root()?.join("tests/parity").join(script);
    let stamp = out.with_extension("made-by.txt");
    let made_by = format!("{}\n{}", fetch::digest(&script)?, models::stamp(model)?);
    if fs::read_to_string(&stamp).is_ok_and(|text| text == made_by) {
        return Ok(());
    }
    say(format!("parity: ONNX Runtime on {}", model.display()));
    let folder = out.parent().context("a reference lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    shell::quiet(Command::new(python::peers()?).args([
        &script,
        &PathBuf::from(model),
        &PathBuf::from(out),
    ]))?;
    fs::write(&stamp, made_by).with_context(|| format!("writing {}", stamp.display()))
}
