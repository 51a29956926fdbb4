//! Every export judged by others: onnx checks its form, ONNX Runtime runs it, whole and in chunks, and what the small checkpoints
//! in tests/golden gave in the transformers library is what their exports must give.

use super::host;
use super::report::Outcome;
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{python, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The real models that are exported, and how.
const REAL: [(Base, &str); 6] = [
    (Base::SmolLm2, "f32"),
    (Base::SmolLm2, "f16"),
    (Base::SmolLm2, "q8"),
    (Base::SmolLm2, "q4"),
    (Base::MiniLm, "f32"),
    (Base::MiniLm, "q8"),
];
/// How each small checkpoint is exported.
const WEIGHTS: [&str; 4] = ["f32", "f16", "q8", "q4"];

/// Exports what isn't there yet and lets `tests/parity/check_export.py` look at everything.
///
/// # Errors
/// When an export fails, or the script ends before it has checked anything.
pub fn check() -> Result<Outcome> {
    let exporter = host::exporter()?;
    let mut arguments = Vec::new();
    for (base, weights) in REAL {
        let folder = models::export(&exporter, base, weights)?;
        arguments.push(folder.display().to_string());
    }
    let built_in = workspace::root()?.join("targets/linux/models/home-commands");
    arguments.push(built_in.display().to_string());
    for (folder, expected) in small(&exporter)? {
        let paths = std::iter::once(folder).chain(expected);
        let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
        arguments.push(paths.join("="));
    }
    say(format!(
        "parity: onnx and ONNX Runtime on {} exports",
        arguments.len()
    ));
    let script = workspace::root()?.join("tests/parity/check_export.py");
    let mut command = Command::new(python::peers()?);
    command.arg(script).args(&arguments);
    let output = command
        .output()
        .with_context(|| format!("starting: {}", shell::show(&command)))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut outcome = Outcome::default();
    for line in said.lines() {
        if line.starts_with("ok ") {
            outcome.passed += 1;
        } else if line.starts_with("FAIL ") {
            outcome.failed += 1;
            outcome.notes.push(line.to_string());
        }
    }
    let done = output.status.success() || outcome.failed > 0;
    if !done || outcome.passed == 0 {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("check_export.py: {}\n{said}{errors}", output.status);
    }
    Ok(outcome)
}

/// Exports of the checkpoints in tests/golden, each with the files of expected results: the model's, and for adapters that are kept,
/// those with the adapter.
fn small(exporter: &Path) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    let golden = workspace::root()?.join("tests/golden");
    let out = workspace::target()?.join("golden-exports");
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let mut found = Vec::new();
    let entries = fs::read_dir(&golden).with_context(|| format!("reading {}", golden.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|folder| folder.join("expected.safetensors").is_file())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().context("a folder has a name")?;
        let name = name.to_string_lossy();
        let expected = |folder: &Path| folder.join("expected.safetensors");
        // An adapter is named after the checkpoint that it belongs to.
        let is_adapter = folder.join("adapter_config.json").is_file();
        let base = match name.split_once('-') {
            Some((base, _)) if is_adapter => golden.join(base),
            _ => folder.clone(),
        };
        for weights in WEIGHTS {
            let export = |to: &Path, more: &[&str]| {
                let mut export = Command::new(exporter);
                export.args(["export", "--force", "--weights", weights, "--base"]);
                export.arg(&base).arg("--out").arg(to).args(more);
                if is_adapter {
                    export.arg("--adapter").arg(&folder);
                }
                shell::quiet(&mut export)
            };
            let to = out.join(format!("{name}-{weights}"));
            export(&to, &[])?;
            found.push((to, vec![expected(&folder)]));
            if is_adapter {
                let to = out.join(format!("{name}-kept-{weights}"));
                export(&to, &["--adapter-mode", "keep"])?;
                found.push((to, vec![expected(&base), expected(&folder)]));
            }
        }
    }
    Ok(found)
}
