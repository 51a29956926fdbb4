//! The processor's threads, each with rows of its own.
//!
//! A small model's operations are too short to be shared by threads: two of them took five sixths of the time of one for a step of
//! SmolLM2 and an adapter on 8 short commands, and three fifths with rows of their own. So a batch is cut by rows, each part goes
//! through the whole model on one thread, and the parts' gradients are added up in their order. That takes a set of gradients for
//! each part.

use std::thread;

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::replicas::Job;
use crate::error::{Error, Result};
use crate::train::model::Model;

/// The most that further sets of gradients may take, in bytes.
const GRADIENTS: usize = 256 << 20;

/// Threads, or groups of them, that each compute a part of a batch.
#[derive(Debug)]
pub struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// The threads of the processor for this model and batches of `rows`; none if it is on another device, or if its gradients are
    /// too large to be there twice. With fewer rows than threads, several threads share the operations on a part.
    pub fn new(model: &Model, rows: usize) -> Workers {
        let parameters = model.parameters();
        let trained: usize = parameters
            .trainable()
            .map(|(_, parameter)| parameter.value().dims().iter().product::<usize>())
            .sum();
        let sets = 1 + GRADIENTS / (trained * size_of::<f32>()).max(1);
        let threads = rayon::current_num_threads();
        let count = sets.min(threads).min(rows);
        if count < 2 || *parameters.device() != Device::flex() {
            return Workers::none();
        }
        let pool = |index: usize| {
            let own = threads / count + usize::from(index < threads % count);
            ThreadPoolBuilder::new().num_threads(own).build()
        };
        let pools = (0..count).map(pool).collect::<std::result::Result<_, _>>();
        Workers {
            // A system that gives no more threads leaves the work to those that there are.
            pools: pools.unwrap_or_default(),
        }
    }

    /// Nobody: all threads share each operation.
    pub fn none() -> Workers {
        Workers { pools: Vec::new() }
    }

    /// `job` in as many parts as there are workers, or fewer if it has fewer rows. None where it can't be cut: a pair is to be told
    /// from all others of its batch.
    pub fn parts(&self, job: &Job) -> Option<Vec<Job>> {
        let rows = job.batch.rows;
        let count = self.pools.len().min(rows);
        if count < 2 || job.partner.is_some() {
            return None;
        }
        let part = |index: usize| Job {
            batch: job
                .batch
                .part(index * rows / count..(index + 1) * rows / count),
            partner: None,
            dropout_seed: job
                .dropout_seed
                .map(|seed| seed.wrapping_add((index as u64) << 32)),
        };
        Some((0..count).map(part).collect())
    }

    /// What `compute` makes of each part, all at once, in their order.
    ///
    /// # Errors
    /// What `compute` reports of the first part that fails.
    pub fn each<R: Send>(
        &self,
        parts: &[Job],
        compute: impl Fn(&Job) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let compute = &compute;
        thread::scope(|scope| {
            let running: Vec<_> = self
                .pools
                .iter()
                .zip(parts)
                .map(|(pool, part)| scope.spawn(move || pool.install(|| compute(part))))
                .collect();
            let stopped = |_| Error::training("a thread", "it stopped in the middle of a batch");
            running
                .into_iter()
                .map(|part| part.join().map_err(stopped)?)
                .collect()
        })
    }
}
