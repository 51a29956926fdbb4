//! Whether the test set looks like what the model will be asked: two samples, and the question whether they are of one kind.
//!
//! Two statistics of the inputs. Lengths: the largest distance between the two distribution functions (Kolmogorov and
//! Smirnov). Wording: the Jensen–Shannon divergence of the frequencies of three-character runs (J. Lin, «Divergence Measures
//! Based on the Shannon Entropy», IEEE Trans. Inf. Theory 1991), 0 for the same frequencies and 1 for nothing in common. Both
//! are above 0 for two samples of one source, too: p-values come from shuffling lines between the two (R. A. Fisher's
//! permutation test), and `expected` says what such a shuffle gives.

use rayon::prelude::*;
use serde::Serialize;

use super::shingles::{hash, normalised};
use super::{Finding, LEVEL, Weight};
use crate::comparison::Random;
use crate::data::DataFile;

/// The most lines of each side that are looked at, drawn by chance from a longer file.
const MAX_LINES: usize = 2000;
/// The most characters of a line that are looked at.
const MAX_CHARACTERS: usize = 4096;
/// Characters of a run.
const RUN: usize = 3;
/// Frequencies are counted by the run's hash.
const BUCKETS: usize = 1 << 14;
/// Shuffles; the least p-value is one by one more.
const SHUFFLES: usize = 499;

/// One statistic of two samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Statistic {
    /// Its value: 0 for the same, 1 for nothing in common.
    pub value: f64,
    /// Its mean when lines are shuffled between the two.
    pub expected: f64,
    /// How often a shuffle gives at least the value.
    pub p: f64,
}

/// How two sets of inputs differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    /// Lines of the data that were looked at.
    pub lines: usize,
    /// Lines of the traffic that were looked at.
    pub traffic_lines: usize,
    /// Of lengths in characters: the Kolmogorov–Smirnov distance.
    pub lengths: Statistic,
    /// Of wording: the Jensen–Shannon divergence, in bits.
    pub wording: Statistic,
}

/// A line as the statistics see it.
struct Line {
    length: usize,
    runs: Vec<u16>,
}

impl Drift {
    pub(super) fn of(data: &DataFile, traffic: &DataFile, seed: u64) -> Drift {
        let mut lines = drawn(data, seed);
        let first = lines.len();
        lines.extend(drawn(traffic, seed));
        let order: Vec<usize> = (0..lines.len()).collect();
        let statistics = |order: &[usize]| {
            let (one, other) = order.split_at(first.min(order.len()));
            (distance(&lines, one, other), divergence(&lines, one, other))
        };
        let found = statistics(&order);
        let shuffled: Vec<(f64, f64)> = (0..SHUFFLES)
            .into_par_iter()
            .map(|shuffle| {
                let mut order = order.clone();
                let mut random = Random::new(seed, 1 + shuffle as u64);
                for last in (1..order.len()).rev() {
                    order.swap(last, random.below(last + 1));
                }
                statistics(&order)
            })
            .collect();
        let statistic = |value: f64, of: fn(&(f64, f64)) -> f64| Statistic {
            value,
            expected: shuffled.iter().map(of).sum::<f64>() / SHUFFLES as f64,
            p: (1 + shuffled.iter().filter(|pair| of(pair) >= value).count()) as f64
                / (SHUFFLES + 1) as f64,
        };
        Drift {
            lines: first,
            traffic_lines: lines.len() - first,
            lengths: statistic(found.0, |pair| pair.0),
            wording: statistic(found.1, |pair| pair.1),
        }
    }

    pub(super) fn judge(&self, findings: &mut Vec<Finding>) {
        let mut find = |what: &str, statistic: &Statistic| {
            if statistic.p < LEVEL {
                let message = format!(
                    "the test set's {what} differ from the traffic's: {:.3} where chance gives {:.3} (p {:.3}); figures \
                     measured on it may not hold in use",
                    statistic.value, statistic.expected, statistic.p
                );
                findings.push(Finding {
                    weight: Weight::Look,
                    message,
                });
            }
        };
        find("lengths", &self.lengths);
        find("words", &self.wording);
    }
}

/// The lines of a file, or as many as are looked at, drawn by chance.
fn drawn(data: &DataFile, seed: u64) -> Vec<Line> {
    let mut indices: Vec<usize> = (0..data.examples.len()).collect();
    let mut random = Random::new(seed, 0);
    let count = indices.len().min(MAX_LINES);
    for index in 0..count {
        let other = index + random.below(indices.len() - index);
        indices.swap(index, other);
    }
    let chosen = indices
        .iter()
        .take(count)
        .filter_map(|&index| data.examples.get(index));
    chosen
        .map(|example| line(&example.content.input()))
        .collect()
}

fn line(input: &str) -> Line {
    let text: Vec<char> = normalised(input).chars().take(MAX_CHARACTERS).collect();
    let runs = text.windows(RUN).map(|run| {
        let hash = hash(run.iter().flat_map(|&c| u32::from(c).to_le_bytes()));
        (hash % BUCKETS as u64) as u16
    });
    Line {
        length: input.chars().count(),
        runs: runs.collect(),
    }
}

/// The Kolmogorov–Smirnov distance of the lengths of two groups of lines.
fn distance(lines: &[Line], one: &[usize], other: &[usize]) -> f64 {
    let mut steps: Vec<(usize, f64)> = Vec::with_capacity(lines.len());
    for (group, sign) in [(one, 1.0), (other, -1.0)] {
        let step = sign / group.len().max(1) as f64;
        steps.extend(
            group
                .iter()
                .filter_map(|&index| Some((lines.get(index)?.length, step))),
        );
    }
    steps.sort_unstable_by_key(|&(length, _)| length);
    let (mut gap, mut largest) = (0.0_f64, 0.0_f64);
    let mut steps = steps.into_iter().peekable();
    while let Some((length, step)) = steps.next() {
        gap += step;
        // Lines of one length step together.
        if steps.peek().is_none_or(|&(next, _)| next != length) {
            largest = largest.max(gap.abs());
        }
    }
    largest
}

/// The Jensen–Shannon divergence of the runs of two groups of lines, in bits.
fn divergence(lines: &[Line], one: &[usize], other: &[usize]) -> f64 {
    let [(one, in_one), (other, in_other)] = [one, other].map(|group| counts(lines, group));
    let mut bits = 0.0;
    for (&a, &b) in one.iter().zip(&other) {
        let (a, b) = (f64::from(a) / in_one, f64::from(b) / in_other);
        let middle = f64::midpoint(a, b);
        for share in [a, b] {
            if share > 0.0 {
                bits += 0.5 * share * (share / middle).log2();
            }
        }
    }
    bits.clamp(0.0, 1.0)
}

fn counts(lines: &[Line], group: &[usize]) -> (Vec<u32>, f64) {
    let mut counts = vec![0_u32; BUCKETS];
    let mut total = 0_u64;
    for run in group
        .iter()
        .filter_map(|&index| lines.get(index))
        .flat_map(|line| &line.runs)
    {
        if let Some(count) = counts.get_mut(usize::from(*run)) {
            *count += 1;
            total += 1;
        }
    }
    (counts, total.max(1) as f64)
}
