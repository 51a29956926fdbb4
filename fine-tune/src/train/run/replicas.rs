//! One model on several devices, which take a step together (data parallelism).
//!
//! Each device holds the whole model and computes batches of its own; their gradients are added up on the first device, whose
//! parameters the optimiser changes, and the others get the changed ones. Gradients are sums over targets, so a step is that of
//! one device that computes the same batches one after another, but for the order in which floats are added.

use std::thread;

use super::workers::Workers;
use crate::error::{Error, Result};
use crate::train::model::{Batch, Gradients, Loss, Model};

/// What a device computes at a time.
#[derive(Debug)]
pub struct Job {
    /// The batch.
    pub batch: Batch,
    /// The other halves of its pairs, where it is one of pairs.
    pub partner: Option<Batch>,
    /// Decides what is dropped; nothing without it.
    pub dropout_seed: Option<u64>,
}

impl Job {
    /// A batch, and its partner, as evaluation sees them.
    pub fn without_dropout((batch, partner): (Batch, Option<Batch>)) -> Job {
        Job {
            batch,
            partner,
            dropout_seed: None,
        }
    }

    /// The batch, and its partner if it has one.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        std::iter::once(&self.batch).chain(&self.partner)
    }
}

/// The same model on each of several devices.
#[derive(Debug)]
pub struct Replicas {
    first: Model,
    others: Vec<Model>,
    /// Who shares the rows of a batch while the first device is alone.
    workers: Workers,
    pair_scale: f32,
}

impl Replicas {
    /// A model, and its copies on other devices, for batches of `rows`. `pair_scale` multiplies the cosines of pairs.
    pub fn new(first: Model, others: Vec<Model>, rows: usize, pair_scale: f32) -> Replicas {
        Replicas {
            workers: if others.is_empty() {
                Workers::new(&first, rows)
            } else {
                Workers::none()
            },
            first,
            others,
            pair_scale,
        }
    }

    /// How many devices compute.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// The model whose parameters are the current ones.
    pub fn first(&self) -> &Model {
        &self.first
    }

    /// The same, to be changed; then call [`Replicas::share`].
    pub fn first_mut(&mut self) -> &mut Model {
        &mut self.first
    }

    /// Gives all devices the parameters of the first.
    pub fn share(&mut self) {
        for other in &mut self.others {
            let device = other.parameters().device().clone();
            for (id, parameter) in self.first.parameters().trainable() {
                let value = parameter.value().clone().to_device(&device);
                other.parameters_mut().update(id, |_| value);
            }
        }
    }

    /// The loss of at most [`Replicas::count`] jobs, one a device, all at once.
    ///
    /// # Errors
    /// When a batch is out of the model's range.
    pub fn loss(&mut self, jobs: &[Job]) -> Result<Loss> {
        let scale = self.pair_scale;
        let mut sum = Loss::default();
        if let [job] = jobs
            && let Some(parts) = self.workers.parts(job)
        {
            let compute = |part: &Job| evaluate(&self.first, part, scale);
            for loss in self.workers.each(&parts, compute)? {
                sum += loss;
            }
            return Ok(sum);
        }
        self.each(
            jobs,
            |model, job| evaluate(model, job, scale),
            |_, loss| {
                sum += loss;
            },
        )?;
        Ok(sum)
    }

    /// The loss of at most [`Replicas::count`] jobs, one a device, all at once, and their gradients, added to `gradients` in the
    /// order of the jobs.
    ///
    /// # Errors
    /// When a batch is out of the model's range.
    pub fn backward(&mut self, jobs: &[Job], gradients: &mut Gradients) -> Result<Loss> {
        let scale = self.pair_scale;
        let mut sum = Loss::default();
        let compute = |model: &Model, job: &Job| {
            let mut own = Gradients::new();
            Ok((learn(model, job, scale, &mut own)?, own))
        };
        if let [job] = jobs {
            let Some(parts) = self.workers.parts(job) else {
                // Added in place: no second set of gradients is in memory.
                return learn(&self.first, job, scale, gradients);
            };
            let compute = |part: &Job| compute(&self.first, part);
            for (loss, own) in self.workers.each(&parts, compute)? {
                sum += loss;
                for (id, gradient) in own.iter() {
                    gradients.add(id, gradient.clone());
                }
            }
            return Ok(sum);
        }
        self.each(jobs, compute, |first, (loss, own)| {
            sum += loss;
            let device = first.parameters().device();
            for (id, gradient) in own.iter() {
                gradients.add(id, gradient.clone().to_device(device));
            }
        })?;
        Ok(sum)
    }

    /// Lets each device compute one of `jobs`, and hands the results to `collect` in their order.
    fn each<R: Send>(
        &mut self,
        jobs: &[Job],
        compute: impl Fn(&Model, &Job) -> Result<R> + Sync,
        mut collect: impl FnMut(&Model, R),
    ) -> Result<()> {
        let Some((own, rest)) = jobs.split_first() else {
            return Ok(());
        };
        debug_assert!(rest.len() <= self.others.len(), "a job for each device");
        let (first, compute) = (&self.first, &compute);
        let results: Vec<Result<R>> = thread::scope(|scope| {
            let others = self.others.iter_mut().zip(rest);
            let running: Vec<_> = others
                .map(|(model, job)| scope.spawn(move || compute(model, job)))
                .collect();
            // On this thread: it may be the only one of rayon's, and any other would wait for it in vain.
            let own = compute(first, own);
            let others = running.into_iter().map(|device| {
                let stopped =
                    |_| Error::training("a device", "it stopped in the middle of a batch");
                device.join().map_err(stopped)?
            });
            std::iter::once(own).chain(others).collect()
        });
        for result in results {
            collect(first, result?);
        }
        Ok(())
    }
}

fn learn(model: &Model, job: &Job, scale: f32, gradients: &mut Gradients) -> Result<Loss> {
    match &job.partner {
        None => model.backward(&job.batch, job.dropout_seed, gradients),
        Some(partner) => {
            model.backward_pairs(&job.batch, partner, scale, job.dropout_seed, gradients)
        }
    }
}

fn evaluate(model: &Model, job: &Job, scale: f32) -> Result<Loss> {
    match &job.partner {
        None => model.loss(&job.batch),
        Some(partner) => model.loss_pairs(&job.batch, partner, scale),
    }
}
