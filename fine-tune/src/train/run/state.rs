//! Where a run stands: with the parameters and the optimiser's memory, all that is needed to go on from there.
//!
//! There is no state of a random number generator: whatever is drawn follows from the seed and the number of the step.

use serde::{Deserialize, Serialize};

use crate::train::data::Cursor;
use crate::train::optimise::Plateau;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What must be the same for the run to go on.
    pub origin: Origin,
    /// Steps that are done.
    pub step: u64,
    /// What of the data is done.
    pub cursor: Cursor,
    /// Targets that were learnt.
    pub targets: f64,
    /// Seconds that were spent.
    pub seconds: f64,
    /// What the schedule makes of the evaluations.
    pub plateau: Plateau,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Evaluations since the best.
    pub since_best: u64,
}

/// What a run began with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The base model's name, or the new one's.
    pub base: String,
    /// `sha256:` and the digest of the base model's weights; of the config of a new model.
    pub base_digest: String,
    /// `sha256:` and the digest of the training data.
    pub data_digest: String,
    /// The same for the evaluation's data.
    pub eval_digest: Option<String>,
    /// When it began, in seconds since 1970: what chat templates take for today.
    pub began: u64,
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After how many steps.
    pub step: u64,
    /// The mean loss of a target, in nats.
    pub loss: f64,
}

impl State {
    /// The state before the first step.
    pub fn new(origin: Origin) -> State {
        State {
            origin,
            step: 0,
            cursor: Cursor::default(),
            targets: 0.0,
            seconds: 0.0,
            plateau: Plateau::new(),
            best: None,
            since_best: 0,
        }
    }

    /// Takes note of an evaluation. True when it is the best so far.
    pub fn evaluated(&mut self, loss: f64, patience: u64) -> bool {
        self.plateau.evaluated(loss, patience);
        if self.best.is_some_and(|best| loss >= best.loss) {
            self.since_best += 1;
            return false;
        }
        let step = self.step;
        self.best = Some(Best { step, loss });
        self.since_best = 0;
        true
    }
}

impl Origin {
    /// What of `self`, which a run began with, `now` has otherwise: what it is, then and now.
    pub fn difference(&self, now: &Origin) -> Option<(&'static str, String, String)> {
        let text = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "none".to_owned());
        let pairs = [
            (
                "base model",
                self.base_digest.clone(),
                now.base_digest.clone(),
            ),
            (
                "training data",
                self.data_digest.clone(),
                now.data_digest.clone(),
            ),
            (
                "evaluation data",
                text(&self.eval_digest),
                text(&now.eval_digest),
            ),
        ];
        pairs.into_iter().find(|(_, then, now)| then != now)
    }
}
