//! How a model or an adapter came about, as `fine-tune train` writes it beside it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::files::{self, SETTINGS_LIMIT};
use crate::error::{Error, Result};

/// The folder of a run, beside its result.
pub const FOLDER: &str = "training";
/// The file in it that says what came of the run.
pub const SUMMARY: &str = "summary.json";

/// How a model or an adapter was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// What was learnt: `lora`, `full` or `scratch`.
    pub method: String,
    /// Name of the data file.
    pub data: String,
    /// `sha256:` and the digest of the data file.
    pub data_digest: String,
    /// Examples that were learnt from.
    pub samples: usize,
    /// Tokens in them.
    pub tokens: usize,
    /// Steps that were done.
    pub steps: u64,
    /// Numbers that were trained.
    pub trained_parameters: usize,
    /// `sha256:` and the digest of the evaluation's data.
    pub eval_digest: Option<String>,
    /// The mean loss of a target of the evaluation before the first step, in nats.
    pub eval_loss_before: Option<f64>,
    /// The same of the result.
    pub eval_loss: Option<f64>,
    /// The settings, without names of files.
    pub settings: Value,
}

impl TrainingRecord {
    /// The record of the run whose result is in `folder`; `None` when it is no result of ours.
    ///
    /// # Errors
    /// When there is one that can't be read.
    pub fn read(folder: &Path) -> Result<Option<TrainingRecord>> {
        let training = folder.join(FOLDER);
        if !training.is_dir() {
            return Ok(None);
        }
        let Some(value) = files::json(&training, SUMMARY, SETTINGS_LIMIT)? else {
            return Ok(None);
        };
        let path = training.join(SUMMARY);
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| Error::malformed(&path, "JSON", error.to_string()))
    }

    /// One line about it.
    pub(super) fn description(&self) -> String {
        let how = match self.method.as_str() {
            "lora" => "adapter",
            "scratch" => "all weights from scratch",
            _ => "all weights",
        };
        let mut text = format!(
            "{how}, {} steps on {} examples of {} ({})",
            self.steps, self.samples, self.data, self.data_digest
        );
        if let (Some(before), Some(after)) = (self.eval_loss_before, self.eval_loss) {
            text += &format!("; loss on other data {before:.3} before, {after:.3} after");
        }
        text
    }
}
