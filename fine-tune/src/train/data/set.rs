//! All samples of a data file.

use furlong_runtime::text::Tokenizer;

use super::{Epoch, Sample, SampleWriter};
use crate::data::{BadLine, DataFile};
use crate::error::{Error, Result};
use crate::train::model::Batch;

/// What is learnt from examples.
#[derive(Debug, Clone, Copy)]
pub enum Lesson<'a> {
    /// To write the next token.
    Tokens,
    /// Which sentences belong together.
    Pairs,
    /// Which of these labels a text has.
    Classes(&'a [String]),
}

/// The samples of a data file, in its order.
#[derive(Debug)]
pub struct SampleSet {
    /// The samples; for an encoder the first sentences of pairs.
    pub samples: Vec<Sample>,
    /// For an encoder the sentences that belong to them.
    pub partners: Option<Vec<Sample>>,
    /// `sha256:` and the digest of the file.
    pub digest: String,
    /// The lines that can't be used, in their order.
    pub bad: Vec<BadLine>,
    /// How many they are in all, of which `bad` keeps the first.
    pub bad_count: usize,
}

impl SampleSet {
    /// Writes all examples of a file as the samples of a lesson. Lines that can't be used are listed, and keep nobody from training.
    ///
    /// # Errors
    /// When no line can be used, or a token id isn't below `vocabulary`: tokenizer and model don't belong together then.
    pub fn write(
        file: &DataFile,
        writer: &SampleWriter<'_>,
        tokenizer: &Tokenizer,
        vocabulary: usize,
        lesson: Lesson<'_>,
    ) -> Result<SampleSet> {
        let mut set = SampleSet {
            samples: Vec::with_capacity(file.examples.len()),
            partners: matches!(lesson, Lesson::Pairs).then(Vec::new),
            digest: file.digest.clone(),
            bad: file.bad.clone(),
            bad_count: file.bad_count,
        };
        for example in &file.examples {
            let written = match (&mut set.partners, lesson) {
                (None, Lesson::Classes(labels)) => writer
                    .write_class(example, labels)
                    .map(|sample| vec![sample]),
                (None, _) => writer.write(example),
                (Some(partners), _) => writer.write_pair(example).map(|[sample, partner]| {
                    partners.push(partner);
                    vec![sample]
                }),
            };
            match written {
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
        let largest = set.all().flat_map(|s| s.tokens.iter().copied()).max();
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
        self.all().map(|sample| sample.tokens.len()).sum()
    }

    /// Batch `number` of `epoch`, and for pairs that of the partners; `None` past the last.
    pub fn batch(&self, epoch: &Epoch, number: usize) -> Option<(Batch, Option<Batch>)> {
        let batch = epoch.batch(number, &self.samples)?;
        let partners = self.partners.as_deref();
        Some((
            batch,
            partners.and_then(|partners| epoch.batch(number, partners)),
        ))
    }

    fn all(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().chain(self.partners.iter().flatten())
    }
}
