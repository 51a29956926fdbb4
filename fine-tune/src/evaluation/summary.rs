//! What the answers to a test set come to.

use serde::{Deserialize, Serialize};

use super::answers::{Answer, Ended};
use crate::comparison::{Interval, bootstrap};
use crate::data::{Content, Example};
use crate::metrics::{self, Loss, Metric, Sample};

/// A score, and how far it may be off because the test set is a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The metric's name.
    pub metric: String,
    /// The score; percent, but for perplexity. Null when the metric says nothing about these answers.
    pub score: Option<f64>,
    /// Where it lies with 95 % confidence, by bootstrap.
    pub interval: Option<Interval>,
}

/// What the answers of one model come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many lines were answered or scored.
    pub answers: usize,
    /// How many prompts were too long for the model.
    pub too_long: usize,
    /// How many answers were cut off at the limit of tokens.
    pub cut_off: usize,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Seconds that the answers took.
    pub seconds: f64,
    /// The scores.
    pub metrics: Vec<Figure>,
}

/// The metrics that suit a test set, when none are asked for.
pub fn default_metrics(examples: &[Example]) -> Vec<Box<dyn Metric>> {
    let all = |test: fn(&Example) -> bool| examples.iter().all(test);
    let json = |example: &Example| {
        let output = example.content.output().map(str::trim_start);
        output.is_some_and(|text| {
            text.starts_with(['{', '[']) && serde_json::from_str::<serde_json::Value>(text).is_ok()
        })
    };
    let names: &[&str] = if all(|example| example.content.output().is_none()) {
        &["perplexity"]
    } else if all(|example| matches!(example.content, Content::Labelled { .. })) {
        &["accuracy", "f1-macro", "f1-micro"]
    } else if all(json) {
        &["exact-match", "json-equal", "json-valid"]
    } else if all(|example| example.content.output().is_some()) {
        &["exact-match", "f1-token", "bleu", "chrf"]
    } else {
        &["exact-match", "f1-token", "bleu", "chrf", "perplexity"]
    };
    names
        .iter()
        .filter_map(|name| metrics::by_name(name))
        .collect()
}

/// Answers as metrics take them. `references` are lists of one or none, as long as `answers`.
pub fn samples<'a>(answers: &'a [Answer], references: &'a [Vec<String>]) -> Vec<Sample<'a>> {
    let pairs = answers.iter().zip(references);
    pairs
        .map(|(answer, references)| Sample {
            answer: &answer.answer,
            references,
            loss: answer
                .loss
                .zip(answer.loss_tokens)
                .map(|(nats, tokens)| Loss {
                    nats,
                    tokens: tokens as f64,
                }),
        })
        .collect()
}

/// Measures answers. `seed` is the bootstrap's.
pub fn summarise(
    answers: &[Answer],
    metrics: &[Box<dyn Metric>],
    resamples: usize,
    seed: u64,
) -> Summary {
    let references: Vec<Vec<String>> = answers
        .iter()
        .map(|answer| answer.reference.iter().cloned().collect())
        .collect();
    let samples = samples(answers, &references);
    let figure = |metric: &dyn Metric| {
        let table = metric.measure(&samples);
        let score = metric.score(&table.sum());
        Figure {
            metric: metric.name().to_owned(),
            score: score.is_finite().then_some(score),
            interval: bootstrap::interval(metric, &table, resamples, seed),
        }
    };
    let count = |ended: Ended| {
        answers
            .iter()
            .filter(|answer| answer.ended == ended)
            .count()
    };
    Summary {
        answers: answers.len(),
        too_long: count(Ended::PromptTooLong),
        cut_off: count(Ended::Length),
        tokens: answers.iter().map(|answer| answer.tokens).sum(),
        seconds: answers.iter().map(|answer| answer.seconds).sum(),
        metrics: metrics
            .iter()
            .map(|metric| figure(metric.as_ref()))
            .collect(),
    }
}
