//! `metrics.jsonl`: what a run was like, a line a step and a line an evaluation.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Lines, MAX_LINE_BYTES};
use crate::error::{Error, Result};

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A step.
    Step(StepLine),
    /// An evaluation.
    Eval(EvalLine),
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLine {
    /// Its number, from 1.
    pub step: u64,
    /// Passes over the data so far.
    pub epoch: f64,
    /// The mean loss of a target before the step, in nats.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Tokens that went through the model a second, padding aside.
    pub tokens_per_second: f64,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalLine {
    /// After how many steps.
    pub step: u64,
    /// The mean loss of a target, in nats.
    pub eval_loss: f64,
    /// Targets that were counted.
    pub targets: f64,
}

impl Line {
    fn step(&self) -> u64 {
        match self {
            Line::Step(line) => line.step,
            Line::Eval(line) => line.step,
        }
    }
}

/// The file as it is written.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    lines: Vec<Line>,
}

impl MetricsFile {
    /// Opens the file to go on from the checkpoint after `step` steps: later lines, which a killed run wrote after it, are taken
    /// out. Without a checkpoint all are.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn open(path: &Path, step: Option<u64>) -> Result<MetricsFile> {
        let mut lines = Vec::new();
        if path.try_exists().map_err(Error::io(path))? {
            let mut file = Lines::open(path, MAX_LINE_BYTES)?;
            while let Some((_, line)) = file.next_line()? {
                // The last line of a killed run may be half a one.
                let line = line.ok().and_then(|text| serde_json::from_str(text).ok());
                lines.extend(line.filter(|line: &Line| Some(line.step()) <= step));
            }
        }
        let text: String = lines.iter().map(text).collect();
        let beside = path.with_extension("jsonl.new");
        fs::write(&beside, text).map_err(Error::io(&beside))?;
        fs::rename(&beside, path).map_err(Error::io(path))?;
        let file = OpenOptions::new().append(true).open(path);
        Ok(MetricsFile {
            path: path.to_owned(),
            file: file.map_err(Error::io(path))?,
            lines,
        })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&mut self, line: Line) -> Result<()> {
        self.file
            .write_all(text(&line).as_bytes())
            .map_err(Error::io(&self.path))?;
        self.lines.push(line);
        Ok(())
    }

    /// All lines so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

fn text(line: &Line) -> String {
    let json = serde_json::to_string(line).unwrap_or_default();
    format!("{json}\n")
}
