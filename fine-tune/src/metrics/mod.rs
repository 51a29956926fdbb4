//! Metrics: what answers are worth, one metric a file.
//!
//! Each works in two steps. [`Metric::measure`] takes every answer to a row of numbers that can be added up, and
//! [`Metric::score`] takes the sum of any rows to a score. A resample of the test set is then nothing but other weights in
//! that sum, which is what makes the bootstrap of [`comparison`](crate::comparison) exact for metrics such as BLEU that
//! are no mean over answers.

mod bleu;
mod chrf;
mod classification;
mod exact_match;
mod json;
mod ngrams;
mod perplexity;
mod table;
#[cfg(test)]
mod tests;
mod token_f1;
mod tokenise;

pub use bleu::{Bleu, Smoothing};
pub use chrf::Chrf;
pub use classification::{Accuracy, F1, F1Mean, label_of};
pub use exact_match::ExactMatch;
pub use json::{JsonEqual, JsonValid};
pub use perplexity::{PERPLEXITY, Perplexity};
pub use table::Table;
pub use token_f1::TokenF1;
pub use tokenise::Tokenise;

/// One answer, and what it is measured against.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// What the model said.
    pub answer: &'a str,
    /// What would have been right; any of them is. Where there are none, only perplexity says something.
    pub references: &'a [String],
    /// What the model gave the reference, where that was computed.
    pub loss: Option<Loss>,
}

/// How surprised the model was by a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// The sum over its tokens, in nats.
    pub nats: f64,
    /// How many tokens were scored.
    pub tokens: f64,
}

/// A way to say how good answers are.
pub trait Metric: std::fmt::Debug + Send + Sync {
    /// The name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Whether a larger score is a better one.
    fn higher_is_better(&self) -> bool;

    /// One row for each sample. A sample that the metric says nothing about gets an empty row.
    fn measure(&self, samples: &[Sample<'_>]) -> Table;

    /// The score of samples whose rows add up to `sums`; not a number when there is nothing to score. Percentages, but for
    /// perplexity.
    fn score(&self, sums: &[f64]) -> f64;

    /// The score of one sample alone, from its row.
    fn score_one(&self, row: &[f64]) -> f64;
}

/// All metrics, in the order in which reports list them.
pub fn all() -> Vec<Box<dyn Metric>> {
    vec![
        Box::new(ExactMatch),
        Box::new(JsonValid),
        Box::new(JsonEqual),
        Box::new(Accuracy),
        Box::new(F1(F1Mean::Macro)),
        Box::new(F1(F1Mean::Micro)),
        Box::new(TokenF1),
        Box::new(Bleu::new(Tokenise::Mteval13a)),
        Box::new(Bleu::new(Tokenise::International)),
        Box::new(Bleu::new(Tokenise::Characters)),
        Box::new(Chrf::default()),
        Box::new(Chrf::plus_plus()),
        Box::new(Perplexity),
    ]
}

/// The metric of this name.
pub fn by_name(name: &str) -> Option<Box<dyn Metric>> {
    all().into_iter().find(|metric| metric.name() == name)
}

/// The names of all metrics.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|metric| metric.name()).collect()
}

/// A row of a metric that is a mean over samples: its part of the sum, and one sample.
fn share(value: f64) -> Vec<(usize, f64)> {
    vec![(0, value), (1, 1.0)]
}

/// The score that rows of [`share`] add up to, as a percentage.
fn mean(sums: &[f64]) -> f64 {
    match sums {
        [sum, count] => 100.0 * sum / count,
        _ => f64::NAN,
    }
}
