//! Data files: one JSON object a line, each something to learn from or to be measured by.
//!
//! A line is input from a stranger: its length, its parts and the file as a whole are bounded, and what is wrong with a line
//! is said with its number and never keeps the others from being read.

mod lines;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

pub use lines::{Lines, MAX_FILE_BYTES, MAX_LINE_BYTES};

/// The most bad lines that are kept; more are only counted.
pub(crate) const MAX_BAD_LINES: usize = 1000;

/// One line of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// What the line calls itself (`"id"`), else its number.
    pub id: String,
    /// Its number in the file, from 1.
    pub line: usize,
    /// What it says.
    pub content: Content,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// `{"prompt", "completion"}`: a text and how it goes on.
    Completion {
        /// The text.
        prompt: String,
        /// How it goes on.
        completion: String,
    },
    /// `{"messages"}`: a conversation.
    Messages(Vec<Turn>),
    /// `{"text", "label"}`: a text and what it is.
    Labelled {
        /// The text.
        text: String,
        /// What it is.
        label: String,
    },
    /// `{"anchor", "positive"}`: two sentences that belong together.
    Pair {
        /// One of them.
        anchor: String,
        /// The other.
        positive: String,
    },
    /// `{"text"}`: a text.
    Text(String),
    /// `{"prompt"}`: a text whose continuation isn't known, as in a log of requests.
    Prompt(String),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, or another role that the model's chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Content {
    /// What a model is given: the prompt, the text, or the turns before the last answer, a turn a line.
    pub fn input(&self) -> String {
        match self {
            Content::Completion { prompt, .. } | Content::Prompt(prompt) => prompt.clone(),
            Content::Labelled { text, .. } | Content::Text(text) => text.clone(),
            Content::Pair { anchor, .. } => anchor.clone(),
            Content::Messages(turns) => {
                let asked = match turns.split_last() {
                    Some((last, before)) if last.role == "assistant" => before,
                    _ => turns,
                };
                joined(asked)
            }
        }
    }

    /// What a model should answer, if the line says so: the completion, the label, or the last turn of the assistant.
    pub fn output(&self) -> Option<&str> {
        match self {
            Content::Completion { completion, .. } => Some(completion),
            Content::Labelled { label, .. } => Some(label),
            Content::Messages(turns) => turns
                .last()
                .filter(|turn| turn.role == "assistant")
                .map(|turn| turn.content.as_str()),
            Content::Pair { .. } | Content::Text(_) | Content::Prompt(_) => None,
        }
    }

    /// All that the line says, as one text.
    pub fn whole(&self) -> String {
        match self {
            Content::Messages(turns) => joined(turns),
            Content::Pair { anchor, positive } => format!("{anchor}\n{positive}"),
            _ => match self.output() {
                Some(output) => format!("{}\n{output}", self.input()),
                None => self.input(),
            },
        }
    }
}

fn joined(turns: &[Turn]) -> String {
    let texts: Vec<&str> = turns.iter().map(|turn| turn.content.as_str()).collect();
    texts.join("\n")
}

/// A line that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// A data file that was read.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// The file.
    pub path: PathBuf,
    /// `sha256:` and the digest of the file.
    pub digest: String,
    /// The lines that can be used.
    pub examples: Vec<Example>,
    /// The first of those that can't.
    pub bad: Vec<BadLine>,
    /// How many can't be used in all.
    pub bad_count: usize,
}

impl DataFile {
    /// Reads a file of examples. Empty lines are passed over.
    ///
    /// # Errors
    /// When the file can't be read, is too large, or has no line that can be used.
    pub fn read(path: &Path) -> Result<DataFile> {
        let mut file = DataFile::read_any(path, record::parse)?;
        file.refuse_repeated_ids();
        file.refuse_empty()?;
        Ok(file)
    }

    /// Reads a log of requests: examples, of which only the input counts, or plain text with one request a line.
    ///
    /// # Errors
    /// As [`DataFile::read`].
    pub fn read_requests(path: &Path) -> Result<DataFile> {
        let file = DataFile::read_any(path, record::parse_request)?;
        file.refuse_empty()?;
        Ok(file)
    }

    fn read_any(
        path: &Path,
        parse: impl Fn(usize, &str) -> std::result::Result<Example, String>,
    ) -> Result<DataFile> {
        let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
        let mut file = DataFile {
            path: path.to_owned(),
            digest: String::new(),
            examples: Vec::new(),
            bad: Vec::new(),
            bad_count: 0,
        };
        while let Some((number, line)) = lines.next_line()? {
            match line.and_then(|text| parse(number, text)) {
                Ok(example) => file.examples.push(example),
                Err(reason) => file.refuse(number, reason),
            }
        }
        file.digest = lines.digest();
        Ok(file)
    }

    fn refuse(&mut self, line: usize, reason: String) {
        self.bad_count += 1;
        if self.bad.len() < MAX_BAD_LINES {
            self.bad.push(BadLine { line, reason });
        }
    }

    /// Answers are found again by id: of two lines with the same one the second can't be used.
    fn refuse_repeated_ids(&mut self) {
        let mut seen = HashSet::new();
        let mut repeated = Vec::new();
        self.examples.retain(|example| {
            let new = seen.insert(example.id.clone());
            if !new {
                repeated.push((
                    example.line,
                    format!("the id {:?} stands on an earlier line too", example.id),
                ));
            }
            new
        });
        for (line, reason) in repeated {
            self.refuse(line, reason);
        }
    }

    fn refuse_empty(&self) -> Result<()> {
        if !self.examples.is_empty() {
            return Ok(());
        }
        let reason = match self.bad.first() {
            Some(bad) => format!("no line can be used; line {}: {}", bad.line, bad.reason),
            None => "the file is empty".to_owned(),
        };
        Err(Error::Data {
            path: self.path.clone(),
            reason,
        })
    }
}
