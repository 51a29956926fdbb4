//! The learning rate of each step.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Not at all.
    Constant,
    /// By the factor at regular distances.
    Step,
    /// By the same factor at each step.
    Exponential,
    /// In a straight line.
    Linear,
    /// Along half a cosine: I. Loshchilov, F. Hutter, «SGDR», 2017, arXiv 1608.03983.
    Cosine,
    /// With one over the root of the step: A. Vaswani and others, «Attention Is All You Need», 2017, arXiv 1706.03762.
    InverseSqrt,
    /// By the factor whenever the evaluation's loss has stopped falling.
    Plateau,
}

/// A learning rate over the steps of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// How it falls.
    pub kind: ScheduleKind,
    /// The highest learning rate, which the warm-up ends at.
    pub peak: f64,
    /// Steps of the warm-up, in which it rises from `peak` / `warm_up` in a straight line.
    pub warm_up: u64,
    /// Steps of the run, warm-up included.
    pub total: u64,
    /// What it falls to, as a share of the peak; inverse square root and constant ask nothing of it.
    pub floor: f64,
    /// What [`Step`](ScheduleKind::Step) and [`Plateau`](ScheduleKind::Plateau) multiply it by.
    pub factor: f64,
    /// After how many steps [`Step`](ScheduleKind::Step) does so.
    pub every: u64,
}

/// How [`Plateau`](ScheduleKind::Plateau) follows the evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// The lowest loss so far.
    best: Option<f64>,
    /// Evaluations since then, or since the rate was lowered.
    waited: u64,
    /// How often the rate was lowered.
    lowered: u32,
}

/// By what share a loss must be lower to count as lower.
const THRESHOLD: f64 = 1e-4;

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn rate(&self, step: u64, plateau: &Plateau) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let since = step - self.warm_up;
        let whole = self.total.saturating_sub(self.warm_up).max(1);
        let done = (since as f64 / whole as f64).min(1.0);
        let floor = self.floor;
        let share = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Step => {
                let times = (since / self.every.max(1)).min(1 << 20) as i32;
                self.factor.powi(times).max(floor)
            }
            // At the floor at the end of the run; with a floor of 0 that is a thousandth.
            ScheduleKind::Exponential => if floor > 0.0 { floor } else { 1e-3 }.powf(done),
            ScheduleKind::Linear => 1.0 - (1.0 - floor) * done,
            ScheduleKind::Cosine => {
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            ScheduleKind::InverseSqrt => (self.warm_up.max(1) as f64 / (step + 1) as f64).sqrt(),
            ScheduleKind::Plateau => self.factor.powi(plateau.lowered as i32).max(floor),
        };
        self.peak * share
    }
}

impl Plateau {
    /// Nothing evaluated yet.
    pub fn new() -> Plateau {
        Plateau {
            best: None,
            waited: 0,
            lowered: 0,
        }
    }

    /// Takes note of an evaluation's loss; after more than `patience` without a lower one the rate is lowered.
    pub fn evaluated(&mut self, loss: f64, patience: u64) {
        if self.best.is_none_or(|best| loss < best * (1.0 - THRESHOLD)) {
            self.best = Some(loss);
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if self.waited > patience {
            self.lowered = self.lowered.saturating_add(1).min(1 << 20);
            self.waited = 0;
        }
    }
}

impl Default for Plateau {
    fn default() -> Plateau {
        Plateau::new()
    }
}
