//! Tells a real change of a bench from noise.
//!
//! Each series has its own noise: the deviation within a run, and what its median moved from one kept run to the next. A change
//! counts when it is larger than three times that.

use crate::history::{History, Run};

/// A change counts beyond this many times the noise.
const TIMES_NOISE: f64 = 3.0;
/// Smaller changes, as parts of the whole, are never worth a word: instruction counts have no noise.
const LEAST: f64 = 0.001;

/// A series that has really changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The bench's name.
    pub name: String,
    /// What was measured.
    pub clock: String,
    /// The old median.
    pub before: f64,
    /// The new one.
    pub now: f64,
    /// The noise of the series, in the same unit.
    pub noise: f64,
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// How many series both have.
    pub compared: usize,
    /// Those that really changed, the worst first.
    pub changes: Vec<Change>,
}

impl Comparison {
    /// How many got slower.
    pub fn regressions(&self) -> usize {
        let worse = self.changes.iter().filter(|change| change.is_regression());
        worse.count()
    }
}

impl Change {
    /// Whether more is needed than before.
    pub fn is_regression(&self) -> bool {
        self.now > self.before
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "{} {} ({}): {:+.1} % (noise ±{:.1} %)",
            if self.is_regression() {
                "slower"
            } else {
                "faster"
            },
            self.name,
            self.clock,
            (self.now / self.before - 1.0) * 100.0,
            self.noise / self.before * 100.0
        )
    }
}

/// Compares a run with the newest values of an older history.
pub fn against(old: &History, run: &Run) -> Comparison {
    let mut comparison = Comparison::default();
    for (name, &[now, deviation]) in &run.results {
        let series: Vec<[f64; 2]> = old
            .runs()
            .iter()
            .filter(|old| old.clock == run.clock)
            .filter_map(|old| old.results.get(name).copied())
            .collect();
        let Some(&[before, old_deviation]) = series.last() else {
            continue;
        };
        comparison.compared += 1;
        let noise = deviation.max(old_deviation).max(drift(&series));
        if (now - before).abs() > (TIMES_NOISE * noise).max(before * LEAST) {
            comparison.changes.push(Change {
                name: name.clone(),
                clock: run.clock.clone(),
                before,
                now,
                noise,
            });
        }
    }
    let worse = |change: &Change| change.now / change.before;
    comparison
        .changes
        .sort_by(|a, b| worse(b).total_cmp(&worse(a)));
    comparison
}

/// How far a series' median moves from one run to the next: the median of the steps, so that a few real changes in between don't
/// pass for noise. Nothing is known from fewer than three steps.
fn drift(series: &[[f64; 2]]) -> f64 {
    let mut steps: Vec<f64> = series
        .windows(2)
        .map(|pair| (pair[1][0] - pair[0][0]).abs())
        .collect();
    steps.sort_by(f64::total_cmp);
    match steps.len() {
        ..3 => 0.0,
        count => steps[(count - 1) / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::against;
    use crate::history::{History, Run};
    use serde_json::{from_value, json};

    fn runs(clock: &str, quiet: &[f64], noisy: &[f64]) -> serde_json::Value {
        quiet
            .iter()
            .zip(noisy)
            .map(|(quiet, noisy)| {
                json!({"date": "2026-01-02", "revision": "abc", "clock": clock,
                       "results": {"quiet": [quiet, 0.1], "noisy": [noisy, 0.1]}})
            })
            .collect()
    }

    #[test]
    fn a_change_counts_beyond_three_times_the_noise_of_its_own_series() {
        let old = [
            runs(
                "cpu",
                &[100.0, 100.2, 99.9, 100.0],
                &[100.0, 106.0, 101.0, 100.0],
            ),
            runs("instructions", &[100.0], &[100.0]),
        ];
        let old: Vec<_> = old
            .iter()
            .flat_map(|runs| runs.as_array().cloned().unwrap_or_default())
            .collect();
        let old: History = from_value(json!({"board": "host", "runs": old})).expect("a history");
        let new = |clock, quiet, noisy| -> Run {
            from_value(runs(clock, &[quiet], &[noisy])[0].clone()).expect("a run")
        };
        // The same 4 %: real in one series, noise in the other.
        let found = against(&old, &new("cpu", 104.0, 104.0));
        assert_eq!((found.compared, found.changes.len()), (2, 1));
        assert!(found.changes[0].name == "quiet" && found.changes[0].is_regression());
        // Enough is enough for a noisy one too; what got faster is a change, and comes last.
        let found = against(&old, &new("cpu", 98.0, 140.0));
        let names: Vec<_> = found
            .changes
            .iter()
            .map(|change| (change.name.as_str(), change.is_regression()))
            .collect();
        assert_eq!(names, [("noisy", true), ("quiet", false)]);
        assert!(against(&old, &new("cpu", 100.2, 101.0)).changes.is_empty());
        // Other clocks are other series.
        assert_eq!(against(&old, &new("wall", 500.0, 500.0)).compared, 0);
    }
}
