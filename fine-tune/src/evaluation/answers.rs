//! Answers of a model, and the file they are kept in: one JSON object a line, so that an interrupted run keeps what it has.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Lines, MAX_LINE_BYTES};
use crate::error::{Error, Result};

/// The most answers that are read from a file.
const MAX_ANSWERS: usize = 10_000_000;

/// The longest line of answers: reference and answer, each character written as an escape in the worst case.
const MAX_ANSWER_BYTES: usize = 16 * MAX_LINE_BYTES;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// The model's context was full.
    Context,
    /// The prompt alone doesn't fit into the model's context; the answer is empty.
    PromptTooLong,
    /// Nothing was to be answered: only the loss was computed.
    Scored,
}

/// What a model said to one line of a test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The line's id.
    pub id: String,
    /// What the model said.
    pub answer: String,
    /// What would have been right; nothing for a text that was only scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How it ended.
    pub ended: Ended,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Seconds that it took.
    pub seconds: f64,
    /// The loss of the reference (of the text, where there is none), in nats, summed over its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// How many tokens that is the sum of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_tokens: Option<usize>,
}

/// Writes answers as they come.
#[derive(Debug)]
pub struct AnswerWriter {
    path: PathBuf,
    file: File,
}

impl AnswerWriter {
    /// Makes the file; one that is there is replaced only with `force`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(path: &Path, force: bool) -> Result<AnswerWriter> {
        let mut options = File::options();
        options.write(true);
        if force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        match options.open(path) {
            Ok(file) => Ok(AnswerWriter {
                path: path.to_owned(),
                file,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Data {
                path: path.to_owned(),
                reason: "is there already; choose another file, or replace it with --force"
                    .to_owned(),
            }),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    /// Appends one answer.
    ///
    /// # Errors
    /// When the disk is full, say. What was written before stays.
    pub fn write(&mut self, answer: &Answer) -> Result<()> {
        let line = serde_json::to_string(answer).map_err(std::io::Error::from);
        line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()))
            .map_err(Error::io(&self.path))
    }
}

/// The answers in a file, by id.
///
/// # Errors
/// When the file can't be read, a line is no answer, or an id stands twice.
pub fn read_answers(path: &Path) -> Result<HashMap<String, Answer>> {
    let refuse = |line: usize, reason: String| Error::Data {
        path: path.to_owned(),
        reason: format!("line {line}: {reason}; give a file that `fine-tune evaluate --out` wrote"),
    };
    let mut lines = Lines::open(path, MAX_ANSWER_BYTES)?;
    let mut answers = HashMap::new();
    while let Some((number, line)) = lines.next_line()? {
        let text = line.map_err(|reason| refuse(number, reason))?;
        let answer: Answer =
            serde_json::from_str(text).map_err(|error| refuse(number, error.to_string()))?;
        let loss = answer.loss.unwrap_or(0.0);
        if !loss.is_finite() || loss < 0.0 || answer.loss.is_some() != answer.loss_tokens.is_some()
        {
            return Err(refuse(number, "its loss is no loss".to_owned()));
        }
        if answers.len() >= MAX_ANSWERS {
            return Err(refuse(number, format!("more than {MAX_ANSWERS} answers")));
        }
        let id = answer.id.clone();
        if answers.insert(id.clone(), answer).is_some() {
            return Err(refuse(number, format!("a second answer to {id:?}")));
        }
    }
    Ok(answers)
}
