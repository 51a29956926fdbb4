//! All samples of a data file.

use furlong_runtime::text::Tokenizer;

use super::{Sample, SampleWriter};
use crate::data::{BadLine, DataFile};
use crate::error::{Error, Result};

/// The samples of a data file, in its order.
#[derive(Debug)]
pub struct SampleSet {
    /// The samples.
    pub samples: Vec<Sample>,
    /// `sha256:` and the digest of the file.
    pub digest: String,
    /// The lines that can't be used, in their order.
    pub bad: Vec<BadLine>,
    /// How many they are in all, of which `bad` keeps the first.
    pub bad_count: usize,
}

impl SampleSet {
    /// Writes all examples of a file as samples. Lines that can't be used are listed, and keep nobody from training.
    ///
    /// # Errors
    /// When no line can be used, or a token id isn't below `vocabulary`: tokenizer and model don't belong together then.
    pub fn write(
        file: &DataFile,
        writer: &SampleWriter<'_>,
        tokenizer: &Tokenizer,
        vocabulary: usize,
    ) -> Result<SampleSet> {
        let mut set = SampleSet {
            samples: Vec::with_capacity(file.examples.len()),
            digest: file.digest.clone(),
            bad: file.bad.clone(),
            bad_count: file.bad_count,
        };
        for example in &file.examples {
            match writer.write(example) {
                Ok(samples) => set.samples.extend(samples),
                Err(reason) => {
                    set.bad_count += 1;
                    if set.bad.len() < crate::data::MAX_BAD_LINES {
                        let line = example.line;
                        set.bad.push(BadLine { line, reason });
                    }
                }
            }
        }
        set.bad.sort_by_key(|bad| bad.line);
        let refuse = |reason: String| {
            Err(Error::Data {
                path: file.path.clone(),
                reason,
            })
        };
        if set.samples.is_empty() {
            let first = set.bad.first();
            let why = first.map_or(String::new(), |bad| {
                format!("; line {}: {}", bad.line, bad.reason)
            });
            return refuse(format!("no line can be used{why}"));
        }
        let largest = set
            .samples
            .iter()
            .flat_map(|s| s.tokens.iter().copied())
            .max();
        if let Some(id) = largest.filter(|&id| id as usize >= vocabulary) {
            let token = tokenizer.token(id).unwrap_or_default();
            return refuse(format!(
                "the tokenizer gives the id {id} ({token:?}), but the model has only {vocabulary} tokens; \
                 use the tokenizer that belongs to the model"
            ));
        }
        Ok(set)
    }

    /// Tokens in all samples.
    pub fn tokens(&self) -> usize {
        self.samples.iter().map(|sample| sample.tokens.len()).sum()
    }

    /// The longest sample's tokens.
    pub fn longest(&self) -> usize {
        let lengths = self.samples.iter().map(|sample| sample.tokens.len());
        lengths.max().unwrap_or(0)
    }
}
