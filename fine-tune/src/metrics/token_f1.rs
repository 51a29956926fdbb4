//! Token-level F1: words that an answer shares with its reference.
//!
//! P. Rajpurkar, J. Zhang, K. Lopyrev, P. Liang, «SQuAD: 100,000+ Questions for Machine Comprehension of Text», EMNLP 2016,
//! with the normalisation of its official evaluation script.

use super::ngrams::{self, words};
use super::{Metric, Sample, Table, mean, share};

/// The mean over answers of the F1 of their words against the best reference, in percent.
#[derive(Debug, Clone, Copy)]
pub struct TokenF1;

impl Metric for TokenF1 {
    fn name(&self) -> &'static str {
        "f1-token"
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(2);
        for sample in samples {
            if sample.references.is_empty() {
                table.push([]);
                continue;
            }
            let answer = normalised(sample.answer);
            let scores = sample
                .references
                .iter()
                .map(|text| f1(&answer, &normalised(text)));
            table.push(share(scores.fold(0.0, f64::max)));
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        mean(sums)
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        mean(row)
    }
}

fn f1(answer: &[String], reference: &[String]) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return f64::from(answer == reference);
    }
    let (found, wanted) = (ngrams::count(answer, 1), ngrams::count(reference, 1));
    let common = ngrams::matches(&found, &wanted) as f64;
    // 2PR / (P + R), with P = common / found and R = common / wanted.
    2.0 * common / (answer.len() + reference.len()) as f64
}

/// Words in lower case, without ASCII punctuation and without articles.
fn normalised(text: &str) -> Vec<String> {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    words(&kept)
        .into_iter()
        .filter(|word| !matches!(*word, "a" | "an" | "the"))
        .map(str::to_owned)
        .collect()
}
