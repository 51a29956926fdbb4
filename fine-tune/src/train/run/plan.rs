//! What a run is going to do: the settings, worked out for its data.

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::train::data::{Arrangement, Epoch, Sample};
use crate::train::optimise::{AdamW, Muon, Rules, Schedule, ScheduleKind};

/// What a run is going to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How samples are put together.
    pub arrangement: Arrangement,
    /// Seed of everything that is drawn at random.
    pub seed: u64,
    /// Batches of a step.
    pub accumulate: usize,
    /// Steps of the run.
    pub total: u64,
    /// The learning rate.
    pub schedule: Schedule,
    /// Evaluations that a plateau lasts.
    pub patience: u64,
    /// The rules of the optimiser.
    pub rules: Rules,
    /// Bound of the norm of all gradients; 0 for none.
    pub clip_norm: f64,
    /// Bound of each element; 0 for none.
    pub clip_value: f64,
    /// Whether anything is dropped.
    pub dropout: bool,
    /// What the cosines of pairs are multiplied by.
    pub pair_scale: f32,
    /// Evaluations without a lower loss after which the run stops; 0 for never.
    pub early_stop: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
    eval_every: u64,
    checkpoint_every: u64,
}

/// Passes over the data, where nothing else is said.
const EPOCHS: u64 = 3;
/// Columns of a batch are a multiple of this, so that there are few different shapes.
const MULTIPLE: usize = 8;

impl Plan {
    /// Works out what `settings` mean for `data`, whose samples have at most `max_tokens` tokens.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub fn new(
        settings: &Settings,
        data: &[Sample],
        max_tokens: usize,
        eval: bool,
    ) -> Result<Plan> {
        let (run, optimiser) = (&settings.run, &settings.optimiser);
        let refuse = |what: &str, reason: &str| Err(Error::training(what, reason));
        if !eval && run.early_stop > 0 {
            return refuse(
                "setting early-stop",
                "needs data to evaluate on: give --eval",
            );
        }
        if !eval && optimiser.schedule == ScheduleKind::Plateau {
            return refuse("schedule plateau", "needs data to evaluate on: give --eval");
        }
        let mut arrangement = Arrangement {
            rows: run.batch_size as usize,
            packed: settings.data.packing.then_some(max_tokens),
            by_length: settings.data.by_length,
            multiple: MULTIPLE,
        };
        // A row must not become longer than the model's context by rounding up.
        if !max_tokens.is_multiple_of(MULTIPLE) {
            arrangement.multiple = 1;
        }
        let accumulate = run.accumulate as usize;
        let total = total(settings, data, arrangement, accumulate);
        let warm_up = match optimiser.warm_up {
            share if share < 1.0 => (share * total as f64).ceil(),
            steps => steps.round(),
        };
        let method = &settings.method;
        Ok(Plan {
            arrangement,
            seed: run.seed,
            accumulate,
            total,
            schedule: Schedule {
                kind: optimiser.schedule,
                peak: settings.learning_rate(),
                warm_up: warm_up as u64,
                total,
                floor: optimiser.floor,
                factor: optimiser.factor,
                every: optimiser.factor_every.unwrap_or(total.div_ceil(3)),
            },
            patience: optimiser.patience,
            rules: Rules {
                kind: optimiser.optimiser,
                adamw: AdamW {
                    beta1: optimiser.beta1,
                    beta2: optimiser.beta2,
                    epsilon: optimiser.epsilon,
                },
                muon: Muon {
                    momentum: optimiser.momentum,
                },
                weight_decay: optimiser.weight_decay,
                lora_plus: method.lora_plus,
            },
            clip_norm: optimiser.clip_norm,
            clip_value: optimiser.clip_value,
            dropout: method.adapter_dropout + method.residual_dropout + method.attention_dropout
                > 0.0,
            pair_scale: method.pair_scale as f32,
            early_stop: run.early_stop,
            keep: run.keep as usize,
            eval_every: run.eval_every,
            checkpoint_every: run.checkpoint_every,
        })
    }

    /// The batches of epoch `number`, from 0.
    pub fn epoch(&self, data: &[Sample], number: u64) -> Epoch {
        Epoch::shuffled(data, self.arrangement, self.seed, number)
    }

    /// The batches of an evaluation.
    pub fn eval_epoch(&self, samples: &[Sample]) -> Epoch {
        Epoch::ordered(samples, self.arrangement)
    }

    /// Whether there is to be an evaluation after `step` steps.
    pub fn is_eval_due(&self, step: u64, epoch_ends: bool) -> bool {
        match self.eval_every {
            0 => epoch_ends,
            every => step.is_multiple_of(every),
        }
    }

    /// Whether there is to be a checkpoint after `step` steps.
    pub fn is_checkpoint_due(&self, step: u64) -> bool {
        self.checkpoint_every > 0 && step.is_multiple_of(self.checkpoint_every)
    }
}

/// Steps of a run.
fn total(settings: &Settings, data: &[Sample], arrangement: Arrangement, accumulate: usize) -> u64 {
    let run = &settings.run;
    let epochs = match (run.epochs, run.max_steps) {
        (Some(epochs), _) => epochs,
        (None, Some(steps)) => return steps,
        (None, None) => EPOCHS,
    };
    let most = run.max_steps.unwrap_or(u64::MAX);
    let steps_of = |number: u64| {
        let epoch = Epoch::shuffled(data, arrangement, run.seed, number);
        epoch.len().div_ceil(accumulate) as u64
    };
    // Packing fills another number of rows in each epoch; else they are all alike.
    if arrangement.packed.is_none() {
        return steps_of(0).saturating_mul(epochs).min(most);
    }
    let mut steps = 0u64;
    for number in 0..epochs {
        steps = steps.saturating_add(steps_of(number));
        if steps >= most {
            break;
        }
    }
    steps.min(most)
}
