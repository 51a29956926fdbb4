//! What the peers gave, in turns: medians with their spread, and one's ratio to another.
//!
//! Every round asks each peer once, so that a machine that drifts drifts for all. A ratio is that of the medians; beside it
//! stand the smallest and the largest ratio within one round.

use crate::shell::say;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One measurement: numbers by what they are, such as `decode_ms`.
pub type Figures = Vec<(&'static str, f64)>;

/// Who takes part.
pub struct Entrant<'a> {
    pub name: String,
    pub measure: Box<dyn Fn() -> Result<Figures> + 'a>,
}

impl<'a> Entrant<'a> {
    /// A peer by its name and how it is measured.
    pub fn new(name: impl Into<String>, measure: impl Fn() -> Result<Figures> + 'a) -> Entrant<'a> {
        Entrant {
            name: name.into(),
            measure: Box::new(measure),
        }
    }
}

/// All rounds of all peers.
#[derive(Debug, Default, Serialize)]
pub struct Samples {
    peers: Vec<Peer>,
}

#[derive(Debug, Serialize)]
struct Peer {
    name: String,
    /// A number for each round.
    figures: BTreeMap<&'static str, Vec<f64>>,
    /// Why it couldn't be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Two that are compared: the second is the best of those named.
pub struct Pair {
    pub ours: String,
    pub theirs: Vec<String>,
}

impl Pair {
    /// Ours against one.
    pub fn new(ours: impl Into<String>, theirs: impl Into<String>) -> Pair {
        Pair {
            ours: ours.into(),
            theirs: vec![theirs.into()],
        }
    }
}

/// What a figure of ours is of theirs.
#[derive(Debug, Serialize)]
pub struct Ratio {
    ours: String,
    theirs: String,
    figure: &'static str,
    /// Of the medians.
    ratio: f64,
    /// Within one round.
    lowest: f64,
    highest: f64,
}

/// Lets each have its turn in each round. One that fails isn't asked again.
pub fn in_turns(what: &str, rounds: usize, entrants: &[Entrant<'_>]) -> Samples {
    let mut peers: Vec<Peer> = entrants
        .iter()
        .map(|entrant| Peer {
            name: entrant.name.clone(),
            figures: BTreeMap::new(),
            failure: None,
        })
        .collect();
    for round in 1..=rounds {
        for (entrant, peer) in entrants.iter().zip(&mut peers) {
            if peer.failure.is_some() {
                continue;
            }
            say(format!(
                "peers: {what}, round {round} of {rounds}: {}",
                entrant.name
            ));
            match (entrant.measure)() {
                Ok(figures) => {
                    for (figure, value) in figures {
                        peer.figures.entry(figure).or_default().push(value);
                    }
                }
                Err(error) => peer.failure = Some(format!("{error:#}")),
            }
        }
    }
    Samples { peers }
}

impl Samples {
    /// A table of medians, each with half the distance between its smallest and its largest value. Figures are given with their
    /// titles.
    pub fn table(&self, title: &str, figures: &[(&'static str, &str)]) -> String {
        let titles: Vec<&str> = figures.iter().map(|(_, title)| *title).collect();
        let mut text = format!(
            "\n| {title} | {} |\n|---|{}\n",
            titles.join(" | "),
            "---:|".repeat(figures.len())
        );
        for peer in &self.peers {
            let cells: Vec<String> = figures
                .iter()
                .map(|(figure, _)| match peer.figures.get(figure) {
                    Some(values) => {
                        let median = median(values);
                        let (low, high) = range(values);
                        let spread = (high - low) / median * 50.0;
                        format!("{} ±{spread:.0} %", significant(median))
                    }
                    None => "–".to_owned(),
                })
                .collect();
            let _ = writeln!(text, "| {} | {} |", peer.name, cells.join(" | "));
        }
        for peer in &self.peers {
            if let Some(failure) = &peer.failure {
                let reason = failure.lines().last().unwrap_or_default().trim();
                let _ = writeln!(text, "\n{} could not be measured: {reason}", peer.name);
            }
        }
        text
    }

    /// The ratio of one figure, unless one of the two has none.
    pub fn ratio(&self, pair: &Pair, figure: &'static str) -> Option<Ratio> {
        let ours = self.values(&pair.ours, figure)?;
        let (theirs, values) = pair
            .theirs
            .iter()
            .filter_map(|name| Some((name, self.values(name, figure)?)))
            .min_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)))?;
        let rounds: Vec<f64> = ours.iter().zip(values).map(|(a, b)| a / b).collect();
        let (lowest, highest) = range(&rounds);
        Some(Ratio {
            ours: pair.ours.clone(),
            theirs: theirs.clone(),
            figure,
            ratio: median(ours) / median(values),
            lowest,
            highest,
        })
    }

    /// The ratios of all pairs that can be compared.
    pub fn ratios(&self, pairs: &[Pair], figures: &[(&'static str, &str)]) -> Vec<Ratio> {
        pairs
            .iter()
            .flat_map(|pair| {
                figures
                    .iter()
                    .filter_map(|(figure, _)| self.ratio(pair, figure))
            })
            .collect()
    }

    fn values(&self, name: &str, figure: &str) -> Option<&[f64]> {
        let peer = self.peers.iter().find(|peer| peer.name == name)?;
        peer.figures
            .get(figure)
            .map(Vec::as_slice)
            .filter(|values| !values.is_empty())
    }
}

/// A table of ratios; below 1 the first needs less.
pub fn ratio_table(ratios: &[Ratio], figures: &[(&'static str, &str)]) -> String {
    if ratios.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("\n| ratio of medians | what | ratio | in one round |\n|---|---|---:|---:|\n");
    for ratio in ratios {
        let what = figures
            .iter()
            .find(|(figure, _)| *figure == ratio.figure)
            .map_or(ratio.figure, |(_, title)| title);
        let _ = writeln!(
            text,
            "| {} : {} | {what} | {:.2} | {:.2} to {:.2} |",
            ratio.ours, ratio.theirs, ratio.ratio, ratio.lowest, ratio.highest
        );
    }
    text
}

/// The middle value, of an even number the mean of the two in the middle; not a number for none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(low), Some(high)) if sorted.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(value)) => *value,
        _ => f64::NAN,
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

/// A number with three or more significant digits.
pub fn significant(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Entrant, Pair, in_turns};
    use anyhow::bail;
    use std::cell::Cell;

    #[test]
    fn ratios_are_of_medians_and_against_the_best() {
        let round = Cell::new(0.0);
        let ours = Entrant::new("ours", || {
            round.set(round.get() + 1.0);
            Ok(vec![("ms", round.get())])
        });
        let slow = Entrant::new("slow", || Ok(vec![("ms", 8.0)]));
        let fast = Entrant::new("fast", || Ok(vec![("ms", 4.0)]));
        let broken = Entrant::new("broken", || bail!("no such op"));
        let samples = in_turns("test", 3, &[ours, slow, fast, broken]);
        let pair = |theirs: &[&str]| Pair {
            ours: "ours".into(),
            theirs: theirs.iter().map(|name| name.to_string()).collect(),
        };
        let ratio = samples
            .ratio(&pair(&["slow", "broken", "fast"]), "ms")
            .expect("two that were measured");
        assert_eq!(ratio.theirs, "fast");
        assert_eq!(
            (ratio.lowest, ratio.ratio, ratio.highest),
            (0.25, 0.5, 0.75)
        );
        assert!(samples.ratio(&pair(&["broken"]), "ms").is_none());
        let table = samples.table("peer", &[("ms", "time")]);
        assert!(table.contains("| ours | 2.00 ±50 % |"), "{table}");
        assert!(
            table.contains("broken could not be measured: no such op"),
            "{table}"
        );
    }
}
