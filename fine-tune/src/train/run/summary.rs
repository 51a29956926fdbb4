//! What came of a run.

use std::path::PathBuf;

use serde::Serialize;

use super::metrics::Line;
use super::trainer::Ended;
use crate::card::TrainingRecord;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The folder of the result.
    pub out: PathBuf,
    /// How it ended.
    pub ended: Ended,
    /// What the model's card says of it.
    #[serde(flatten)]
    pub record: TrainingRecord,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Lines of data that can't be used.
    pub bad_lines: usize,
    /// The first step's mean loss, in nats.
    pub first_loss: Option<f64>,
    /// The last step's.
    pub last_loss: Option<f64>,
    /// After how many steps the evaluation was best, if there was one; the result is as it was then.
    pub best_step: Option<u64>,
    /// Seconds that the steps and evaluations took.
    pub seconds: f64,
    /// The most memory that the program held, in bytes, where the operating system says it.
    pub peak_memory_bytes: Option<u64>,
}

/// The losses that a summary names: of the first and the last step, and of the evaluation before the first.
pub(super) fn losses(lines: &[Line]) -> (Option<f64>, Option<f64>, Option<f64>) {
    let step = |line: &Line| match line {
        Line::Step(line) => Some(line.loss),
        Line::Eval(_) => None,
    };
    let before = |line: &Line| match line {
        Line::Eval(line) if line.step == 0 => Some(line.eval_loss),
        _ => None,
    };
    (
        lines.iter().find_map(step),
        lines.iter().rev().find_map(step),
        lines.iter().find_map(before),
    )
}
