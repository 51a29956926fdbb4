//! The loop: batches in, steps out, with evaluations and checkpoints in between.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::events::EventFile;
use super::metrics::{EvalLine, Line, MetricsFile, StepLine};
use super::plan::Plan;
use super::replicas::{Job, Replicas};
use super::state::State;
use super::store::{Arrays, Saved, Store};
use crate::comparison::Random;
use crate::error::{Error, Result};
use crate::train::data::{Epoch, SampleSet, filled};
use crate::train::model::{Gradients, Loss, Model};
use crate::train::optimise::{Optimiser, clip_norm, clip_value, norm};

/// A run that is under way.
#[derive(Debug)]
pub struct Trainer {
    plan: Plan,
    replicas: Replicas,
    optimiser: Optimiser,
    state: State,
    data: SampleSet,
    eval: Option<SampleSet>,
    /// The epoch that the run is in.
    epoch: Epoch,
    store: Store,
    metrics: MetricsFile,
    events: EventFile,
}

/// Where what a run writes goes.
#[derive(Debug)]
pub struct Records {
    /// Checkpoints.
    pub store: Store,
    /// Figures of every step.
    pub metrics: MetricsFile,
    /// The same for TensorBoard.
    pub events: EventFile,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// All steps are done.
    Finished,
    /// The evaluation's loss had stopped falling.
    StoppedEarly,
    /// It was asked to stop; it can be resumed.
    Interrupted,
}

/// What is said after each step.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps that are done.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// The step's mean loss, in nats.
    pub loss: f64,
    /// The last evaluation's.
    pub eval_loss: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// Tokens a second, padding aside.
    pub tokens_per_second: f64,
}

/// Streams of random numbers, so that no two uses share one.
const DROPOUT_STREAM: u64 = 1 << 40;

impl Trainer {
    /// A run that goes on from `state` with a model, on each of its devices, and an optimiser as they were then.
    ///
    /// # Errors
    /// When the data has no such place as the state names.
    pub fn new(
        plan: Plan,
        replicas: Replicas,
        optimiser: Optimiser,
        state: State,
        data: SampleSet,
        eval: Option<SampleSet>,
        records: Records,
    ) -> Result<Trainer> {
        let epoch = plan.epoch(&data.samples, state.cursor.epoch);
        if state.cursor.batch >= epoch.len() {
            let path = records.store.path(state.step);
            let reason = format!(
                "names batch {} of an epoch of {}",
                state.cursor.batch,
                epoch.len()
            );
            return Err(Error::malformed(&path, "cursor", reason));
        }
        Ok(Trainer {
            plan,
            replicas,
            optimiser,
            state,
            data,
            eval,
            epoch,
            store: records.store,
            metrics: records.metrics,
            events: records.events,
        })
    }

    /// Takes steps until the run is over, `cancel` becomes true, or something goes wrong. `each` hears of every step.
    ///
    /// # Errors
    /// When a loss is not a number, or a file can't be written. The last checkpoint stays.
    pub fn run(&mut self, cancel: &AtomicBool, mut each: impl FnMut(&Progress)) -> Result<Ended> {
        let mut eval_loss = None;
        if self.eval.is_some() && self.state.step == 0 && self.state.best.is_none() {
            eval_loss = Some(self.evaluate()?);
        }
        loop {
            if self.plan.early_stop > 0 && self.state.since_best >= self.plan.early_stop {
                self.save()?;
                return Ok(Ended::StoppedEarly);
            }
            if self.state.step >= self.plan.total {
                self.save()?;
                return Ok(Ended::Finished);
            }
            if cancel.load(Ordering::SeqCst) {
                self.save()?;
                return Ok(Ended::Interrupted);
            }
            let mut progress = self.step()?;
            let ends = self.state.step >= self.plan.total;
            let epoch_ends = self.state.cursor.batch == 0;
            if self.eval.is_some() && (ends || self.plan.is_eval_due(self.state.step, epoch_ends)) {
                eval_loss = Some(self.evaluate()?);
            } else if self.plan.is_checkpoint_due(self.state.step) {
                self.save()?;
            }
            progress.eval_loss = eval_loss;
            each(&progress);
        }
    }

    /// The model as it is.
    pub fn model(&self) -> &Model {
        self.replicas.first()
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The figures of all steps and evaluations.
    pub fn lines(&self) -> &[Line] {
        self.metrics.lines()
    }

    /// Goes back to the parameters of the best evaluation, if there was one.
    ///
    /// # Errors
    /// When its checkpoint can't be read.
    pub fn restore_best(&mut self) -> Result<()> {
        match self.state.best {
            Some(best) if best.step != self.state.step => {
                let saved = self.store.read(best.step)?;
                let path = self.store.path(best.step);
                set_parameters(self.replicas.first_mut(), saved.parameters)
                    .map_err(|reason| Error::malformed(&path, "parameters", reason))
            }
            _ => Ok(()),
        }
    }

    /// One step of the optimiser.
    fn step(&mut self) -> Result<Progress> {
        let start = Instant::now();
        let step = self.state.step;
        let cursor = self.state.cursor;
        let last = (cursor.batch + self.plan.accumulate).min(self.epoch.len());
        let mut gradients = Gradients::new();
        let mut loss = Loss::default();
        let mut tokens = 0;
        let numbers: Vec<usize> = (cursor.batch..last).collect();
        for numbers in numbers.chunks(self.replicas.count()) {
            let jobs: Vec<Job> = numbers
                .iter()
                .filter_map(|&number| self.job(number))
                .collect();
            let batches = jobs.iter().flat_map(Job::batches);
            tokens += batches.map(filled).sum::<usize>();
            loss += self.replicas.backward(&jobs, &mut gradients)?;
        }
        gradients.check(self.model().parameters())?;
        self.refuse_lost(step, "loss", loss.mean())?;
        let weight = loss.weight;
        gradients.map(|_, gradient| gradient.div_scalar(weight));
        if self.plan.clip_value > 0.0 {
            clip_value(&mut gradients, self.plan.clip_value);
        }
        let length = norm(&gradients);
        self.refuse_lost(step, "norm of the gradients", length)?;
        if self.plan.clip_norm > 0.0 {
            clip_norm(&mut gradients, length, self.plan.clip_norm);
        }
        let rate = self.plan.schedule.rate(step, &self.state.plateau);
        let parameters = self.replicas.first_mut().parameters_mut();
        self.optimiser.step(parameters, gradients, rate);
        self.replicas.share();
        self.advance(last);
        let seconds = start.elapsed().as_secs_f64();
        self.state.step += 1;
        self.state.targets += weight;
        self.state.seconds += seconds;
        let speed = tokens as f64 / seconds.max(1e-9);
        self.note_step(loss.mean(), rate, length, speed)?;
        Ok(Progress {
            step: self.state.step,
            total: self.plan.total,
            loss: loss.mean(),
            eval_loss: None,
            learning_rate: rate,
            tokens_per_second: speed,
        })
    }

    /// A batch of the epoch, as a device is to learn from it.
    fn job(&self, number: usize) -> Option<Job> {
        let (batch, partner) = self.data.batch(&self.epoch, number)?;
        let drawn = Random::new(self.plan.seed, DROPOUT_STREAM + self.state.step).next();
        let seed = self.plan.dropout;
        Some(Job {
            batch,
            partner,
            dropout_seed: seed.then_some(drawn.wrapping_add(number as u64)),
        })
    }

    /// Moves the cursor behind the batches before `last`.
    fn advance(&mut self, last: usize) {
        self.state.cursor.batch = last;
        if last >= self.epoch.len() {
            self.state.cursor.epoch += 1;
            self.state.cursor.batch = 0;
            self.epoch = self.plan.epoch(&self.data.samples, self.state.cursor.epoch);
        }
    }

    fn note_step(&mut self, loss: f64, rate: f64, norm: f64, speed: f64) -> Result<()> {
        let step = self.state.step;
        let part = self.state.cursor.batch as f64 / self.epoch.len().max(1) as f64;
        self.metrics.add(Line::Step(StepLine {
            step,
            epoch: self.state.cursor.epoch as f64 + part,
            loss,
            learning_rate: rate,
            gradient_norm: norm,
            tokens_per_second: speed,
        }))?;
        let figures = [
            ("train/loss", loss),
            ("train/learning_rate", rate),
            ("train/gradient_norm", norm),
            ("train/tokens_per_second", speed),
        ];
        self.events.add(step, &figures)
    }

    /// Measures the loss on the evaluation's data; the best is kept as a checkpoint.
    fn evaluate(&mut self) -> Result<f64> {
        let start = Instant::now();
        let mut loss = Loss::default();
        if let Some(eval) = &self.eval {
            let epoch = self.plan.eval_epoch(&eval.samples);
            let numbers: Vec<usize> = (0..epoch.len()).collect();
            for numbers in numbers.chunks(self.replicas.count()) {
                let batches = numbers
                    .iter()
                    .filter_map(|&number| eval.batch(&epoch, number));
                let jobs: Vec<Job> = batches.map(Job::without_dropout).collect();
                loss += self.replicas.loss(&jobs)?;
            }
        }
        let mean = loss.mean();
        self.refuse_lost(self.state.step, "loss of the evaluation", mean)?;
        self.state.seconds += start.elapsed().as_secs_f64();
        let step = self.state.step;
        let best = self.state.evaluated(mean, self.plan.patience);
        self.metrics.add(Line::Eval(EvalLine {
            step,
            eval_loss: mean,
            targets: loss.weight,
        }))?;
        self.events.add(step, &[("eval/loss", mean)])?;
        if best || self.plan.is_checkpoint_due(step) {
            self.save()?;
        }
        Ok(mean)
    }

    fn save(&self) -> Result<PathBuf> {
        let parameters = self.model().parameters().trainable();
        let parameters: Arrays = parameters
            .map(|(_, parameter)| (parameter.name().to_owned(), parameter.value().to_data()))
            .collect();
        let path = self.store.write(&Saved {
            state: self.state.clone(),
            parameters,
            optimiser: self.optimiser.save(),
        })?;
        let best = self.state.best.map(|best| best.step);
        self.store.prune(self.plan.keep, best)?;
        Ok(path)
    }

    /// An error when `value` is not a number: nothing that is learnt from it is worth anything.
    fn refuse_lost(&self, step: u64, what: &str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let steps = self.store.steps()?;
        let last = match steps.last() {
            Some(&last) => format!(
                "the last good checkpoint is {}",
                self.store.path(last).display()
            ),
            None => "there is no checkpoint yet".to_owned(),
        };
        Err(Error::training(
            format!("step {}", step + 1),
            format!(
                "the {what} is {value}; {last}; try again with a lower learning-rate, a longer warm-up or a lower \
                 clip-norm"
            ),
        ))
    }
}

/// Gives the trained parameters of a model the values they were saved with.
pub(super) fn set_parameters(
    model: &mut Model,
    mut values: Arrays,
) -> std::result::Result<(), String> {
    let trained = model.parameters().trainable();
    let trained: Vec<_> = trained
        .map(|(id, parameter)| (id, parameter.name().to_owned()))
        .collect();
    for (id, name) in trained {
        let data = values.remove(&name);
        let data = data.ok_or_else(|| format!("{name} is missing"))?;
        let numbers = data
            .try_into_vec::<f32>()
            .map_err(|error| error.to_string())?;
        model
            .parameters_mut()
            .set(id, numbers)
            .map_err(|error| error.to_string())?;
    }
    match values.into_keys().next() {
        Some(name) => Err(format!("{name} is none of the model's parameters")),
        None => Ok(()),
    }
}
