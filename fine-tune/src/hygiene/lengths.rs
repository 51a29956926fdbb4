//! How long the lines of a file are.

use std::path::Path;

use serde::Serialize;

use super::{Finding, TokenCounter, Weight};
use crate::data::DataFile;
use crate::error::Result;

/// How lengths are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// The shortest.
    pub least: usize,
    /// A twentieth is shorter.
    pub p5: usize,
    /// Half is shorter.
    pub median: usize,
    /// The mean.
    pub mean: f64,
    /// A twentieth is longer.
    pub p95: usize,
    /// The longest.
    pub most: usize,
}

impl Distribution {
    fn of(mut lengths: Vec<usize>) -> Distribution {
        lengths.sort_unstable();
        let at = |share: f64| {
            let index = (share * lengths.len().saturating_sub(1) as f64).round() as usize;
            lengths.get(index).copied().unwrap_or_default()
        };
        Distribution {
            least: at(0.0),
            p5: at(0.05),
            median: at(0.5),
            mean: lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64,
            p95: at(0.95),
            most: at(1.0),
        }
    }
}

/// How long inputs and outputs are.
#[derive(Debug, Clone, Serialize)]
pub struct Lengths {
    /// Characters of the inputs.
    pub input_characters: Distribution,
    /// Characters of the outputs, of the lines that have one.
    pub output_characters: Option<Distribution>,
    /// Tokens of whole lines, if there is a tokenizer; what a chat template adds isn't counted.
    pub tokens: Option<Distribution>,
    /// Lines with more tokens than the model takes.
    pub too_long: usize,
}

impl Lengths {
    pub(super) fn of(data: &DataFile, counter: Option<&TokenCounter<'_>>) -> Result<Lengths> {
        let characters = |text: &str| text.chars().count();
        let contents = || data.examples.iter().map(|example| &example.content);
        let outputs: Vec<usize> = contents()
            .filter_map(|c| c.output().map(characters))
            .collect();
        let tokens: Option<Vec<usize>> = match counter {
            Some(counter) => Some(
                contents()
                    .map(|c| (counter.count)(&c.whole()))
                    .collect::<Result<_>>()?,
            ),
            None => None,
        };
        let limit = counter
            .and_then(|counter| counter.context)
            .unwrap_or(usize::MAX);
        let too_long = tokens
            .iter()
            .flatten()
            .filter(|&&count| count > limit)
            .count();
        Ok(Lengths {
            input_characters: Distribution::of(
                contents().map(|c| characters(&c.input())).collect(),
            ),
            output_characters: (!outputs.is_empty()).then(|| Distribution::of(outputs)),
            tokens: tokens.map(Distribution::of),
            too_long,
        })
    }

    pub(super) fn judge(
        &self,
        path: &Path,
        counter: Option<&TokenCounter<'_>>,
        findings: &mut Vec<Finding>,
    ) {
        if let Some(context) = counter.and_then(|counter| counter.context)
            && self.too_long > 0
        {
            let message = format!(
                "{}: {} lines have more than the {context} tokens that the model takes; shorten or remove them",
                path.display(),
                self.too_long
            );
            findings.push(Finding {
                weight: Weight::Fix,
                message,
            });
        }
    }
}
