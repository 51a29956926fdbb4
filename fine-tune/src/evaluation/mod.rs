//! How good an exported model is: it answers a test set in the runtime that will run it on the device, and the answers are
//! measured.

mod answers;
mod runner;
mod summary;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use answers::{Answer, AnswerWriter, Ended, read_answers};
pub use runner::{Options, Runner};
pub use summary::{Figure, Summary, default_metrics, samples, summarise};

use crate::data::{BadLine, DataFile};
use crate::error::Result;

/// A model's results on a test set.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// The model folder.
    pub model: PathBuf,
    /// The adapter that it answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// The test set.
    pub data: TestSet,
    /// Lines that can't be used; at most the first thousand.
    pub bad_lines: Vec<BadLine>,
    /// How many can't be used in all.
    pub bad_count: usize,
    /// Whether it was broken off, so that only a part of the lines is answered.
    pub interrupted: bool,
    /// What the answers come to.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What a test set is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSet {
    /// The file's name.
    pub name: String,
    /// `sha256:` and the digest of the file.
    pub digest: String,
    /// How many lines can be used.
    pub lines: usize,
}

impl TestSet {
    /// What `file` is known by.
    pub fn of(file: &DataFile) -> TestSet {
        let name = file.path.file_name().unwrap_or_default();
        TestSet {
            name: name.to_string_lossy().into_owned(),
            digest: file.digest.clone(),
            lines: file.examples.len(),
        }
    }
}

/// The answers of `answers` to the lines of `data`, in their order; lines without an answer are `None`.
///
/// # Errors
/// When an answer was measured against another reference than the line has.
pub fn matched(
    path: &Path,
    mut answers: std::collections::HashMap<String, Answer>,
    data: &DataFile,
) -> Result<Vec<Option<Answer>>> {
    let one = |example: &crate::data::Example| match answers.remove(&example.id) {
        Some(answer) if answer.reference.as_deref() != example.content.output() => {
            Err(crate::error::Error::Data {
                path: path.to_owned(),
                reason: format!(
                    "the answer to {:?} belongs to another reference than line {} of {} has; evaluate the model on this file",
                    example.id,
                    example.line,
                    data.path.display()
                ),
            })
        }
        answer => Ok(answer),
    };
    data.examples.iter().map(one).collect()
}
