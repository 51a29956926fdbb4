//! The bootstrap: how a score would vary if the test set were drawn again.
//!
//! P. Koehn, «Statistical Significance Tests for Machine Translation Evaluation», EMNLP 2004: test sets of the same size are
//! drawn from the answers with replacement, for both models the same ones. The p-value is two-sided: how often the resamples'
//! differences, moved to mean 0, are as large as the one that was found (B. Efron, R. Tibshirani, «An Introduction to the
//! Bootstrap», 1993, chapter 16). sacreBLEU's paired bootstrap follows a Moses script instead, whose p is one-sided and
//! about half as large.

use rayon::prelude::*;
use serde::Serialize;

use super::Interval;
use super::random::Random;
use crate::metrics::{Metric, Table};

/// What is outside a 95 % interval on each side.
const TAIL: f64 = 0.025;

/// Two models under one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The score of the first.
    pub a: f64,
    /// The score of the second.
    pub b: f64,
    /// `b − a`.
    pub difference: f64,
    /// Where the difference lies with 95 % confidence.
    pub interval: Interval,
    /// How often chance alone would give at least this difference between two equal models.
    pub p: f64,
    /// The share of resamples in which the second is better.
    pub b_better: f64,
    /// The standard deviation of the difference over resamples.
    pub standard_error: f64,
}

/// Compares the rows of two models, of which those with the same index are answers to the same line. `None` when the metric
/// says nothing about them.
///
/// The same seed gives the same outcome, on any machine and any number of threads.
pub fn paired(
    metric: &dyn Metric,
    a: &Table,
    b: &Table,
    resamples: usize,
    seed: u64,
) -> Option<Outcome> {
    let (score_a, score_b) = (metric.score(&a.sum()), metric.score(&b.sum()));
    let difference = score_b - score_a;
    if a.len() != b.len() || !difference.is_finite() {
        return None;
    }
    let mut differences = resampled(a.len(), resamples, seed, |counts| {
        metric.score(&b.weighted_sum(counts)) - metric.score(&a.weighted_sum(counts))
    });
    let interval = interval_of(&mut differences)?;
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
    let at_least = |d: &&f64| (**d - mean).abs() >= difference.abs();
    let variance =
        differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let extreme = differences.iter().filter(at_least).count() as f64;
    Some(Outcome {
        a: score_a,
        b: score_b,
        difference,
        interval,
        p: (extreme + 1.0) / (count + 1.0),
        b_better: differences.iter().filter(|d| sign * **d > 0.0).count() as f64 / count,
        standard_error: variance.sqrt(),
    })
}

/// Where the score of one model lies with 95 % confidence. `None` when the metric says nothing about its answers.
pub fn interval(
    metric: &dyn Metric,
    table: &Table,
    resamples: usize,
    seed: u64,
) -> Option<Interval> {
    let mut scores = resampled(table.len(), resamples, seed, |counts| {
        metric.score(&table.weighted_sum(counts))
    });
    interval_of(&mut scores)
}

/// `value` of each resample, which says how often each of `len` rows is in it. What is not a number is left out.
fn resampled(
    len: usize,
    resamples: usize,
    seed: u64,
    value: impl Fn(&[u32]) -> f64 + Sync,
) -> Vec<f64> {
    if len == 0 {
        return Vec::new();
    }
    let one = |counts: &mut Vec<u32>, resample: usize| {
        let mut random = Random::new(seed, resample as u64);
        counts.clear();
        counts.resize(len, 0);
        for _ in 0..len {
            if let Some(count) = counts.get_mut(random.below(len)) {
                *count += 1;
            }
        }
        value(counts)
    };
    (0..resamples)
        .into_par_iter()
        .map_init(Vec::new, one)
        .collect::<Vec<f64>>()
        .into_iter()
        .filter(|value| value.is_finite())
        .collect()
}

/// The interval between the tails; sorts the values.
fn interval_of(values: &mut [f64]) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let tail = (TAIL * values.len() as f64) as usize;
    Some(Interval {
        low: *values.get(tail)?,
        high: *values.get(values.len().checked_sub(tail + 1)?)?,
    })
}
