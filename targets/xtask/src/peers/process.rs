//! Running a peer and learning what it took: `peers/measure.py` reads what the kernel keeps of a child, which Rust's standard
//! library doesn't give.

use crate::shell;
use crate::{python, workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use std::process::Command;

/// What a program took and said.
#[derive(Debug, Deserialize)]
pub struct Ran {
    /// Seconds to the first byte of its output.
    pub first_output_s: Option<f64>,
    /// Seconds on all processors.
    pub cpu_s: f64,
    /// The most memory it held.
    pub peak_rss_bytes: f64,
    status: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Errors
/// When it can't be started or doesn't succeed: with the last line it wrote.
pub fn run(command: &Command) -> Result<Ran> {
    let script = workspace::root()?.join("targets/xtask/peers/measure.py");
    let mut measured = Command::new(python::bare()?);
    measured
        .arg(script)
        .arg(command.get_program())
        .args(command.get_args());
    let ran: Ran = serde_json::from_str(&shell::capture(&mut measured)?)
        .context("reading what measure.py said")?;
    if ran.status != 0 {
        let said = [ran.stdout.as_str(), ran.stderr.as_str()].join("\n");
        let mut lines = said.lines().map(str::trim);
        let last = lines.rfind(|line| !line.is_empty() && !line.starts_with("hint: "));
        bail!(
            "{} (exit status {})",
            last.unwrap_or("it said nothing"),
            ran.status
        );
    }
    Ok(ran)
}

impl Ran {
    /// The JSON object on the last line of its output, or the JSON value that its whole output is.
    ///
    /// # Errors
    /// When there is none.
    pub fn json(&self) -> Result<Value> {
        let whole = self.stdout.trim();
        let line = whole.lines().last().unwrap_or_default();
        serde_json::from_str(whole)
            .or_else(|_| serde_json::from_str(line))
            .with_context(|| format!("not JSON: {line}"))
    }
}

/// A number of a JSON object.
///
/// # Errors
/// When there is none of that name.
pub fn number(json: &Value, field: &str) -> Result<f64> {
    json[field]
        .as_f64()
        .with_context(|| format!("no {field} in {json}"))
}
