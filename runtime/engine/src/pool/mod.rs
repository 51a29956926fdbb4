//! The threads of a model, and how an op divides its work among them.
//!
//! Work is cut into parts, which the threads take one after another: a thread on a slow core, or on one that another
//! program uses, takes fewer. Parts start large and end small, so that all end together. No result depends on who
//! computed which part.

mod crew;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use furlong_core::MatrixMut;

use crate::Error;
use crew::Crew;

/// Parts that a thread takes of an even job: more balance better, fewer cost less.
const PARTS: usize = 4;

/// A fixed number of threads. One thread means the caller's own.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: NonZeroUsize,
    crew: Option<Crew>,
    /// Threads for tract's own operators, where a graph needs them.
    graph: OnceLock<Arc<rayon::ThreadPool>>,
}

impl Pool {
    /// A pool of `threads` threads.
    ///
    /// # Errors
    /// [`Error::Usage`] when the operating system doesn't give them.
    pub(crate) fn new(threads: NonZeroUsize) -> Result<Pool, Error> {
        let crew = match threads.get() {
            1 => None,
            count => Some(Crew::new(count - 1).map_err(|error| no_threads(count, &error))?),
        };
        Ok(Pool {
            threads,
            crew,
            graph: OnceLock::new(),
        })
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads.get()
    }

    /// Starts as many threads for tract's own operators, if they are wanted and not there yet.
    ///
    /// # Errors
    /// [`Error::Usage`] when the operating system doesn't give them.
    pub(crate) fn start_graph_threads(&self) -> Result<(), Error> {
        if self.crew.is_some() && self.graph.get().is_none() {
            // Where two threads start them, one of the two is dropped.
            let _ = self.graph.set(graph_threads(self.threads())?);
        }
        Ok(())
    }

    /// Runs `work` where tract's own operators find their threads.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self.graph.get() {
            Some(threads) => threads.install(work),
            None => work(),
        }
    }

    /// Calls `work` with each of `jobs`, in any order.
    ///
    /// # Errors
    /// The first error of any.
    pub(crate) fn for_each<J: Send, E: Send>(
        &self,
        jobs: Vec<J>,
        work: impl Fn(J) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let crew = self.crew_for(jobs.len());
        let mut jobs = jobs.into_iter();
        match crew {
            Some(crew) => share(crew, || jobs.next(), work),
            None => jobs.try_for_each(work),
        }
    }

    /// Cuts `values` into rows of `width`, and calls `work` with parts of `rows_at_once` rows (the last may have
    /// fewer) and the index of their first row.
    ///
    /// # Errors
    /// The first error of any part.
    pub(crate) fn for_rows<T: Send, E: Send>(
        &self,
        values: &mut [T],
        width: usize,
        rows_at_once: usize,
        work: impl Fn(usize, &mut [T]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let len = width.saturating_mul(rows_at_once).max(1);
        let count = values.len().div_ceil(len);
        let Some(crew) = self.crew_for(count) else {
            return work(0, values);
        };
        let mut parts = values.chunks_mut(len).enumerate();
        share(
            crew,
            || parts.next(),
            |(index, part)| work(index * rows_at_once, part),
        )
    }

    /// Divides the columns of `out` at multiples of `tile`, and calls `work` with each part and the range of
    /// columns it is.
    ///
    /// # Errors
    /// The first error of any part.
    pub(crate) fn for_columns<E: Send>(
        &self,
        out: MatrixMut<'_>,
        tile: usize,
        work: &(impl Fn(Range<usize>, MatrixMut<'_>) -> Result<(), E> + Sync),
    ) -> Result<(), E> {
        let (columns, tile) = (out.columns(), tile.max(1));
        let tiles = columns.div_ceil(tile);
        let Some(crew) = self.crew_for(tiles) else {
            return work(0..columns, out);
        };
        let mut rest = Some(out);
        let mut start = 0;
        let next = || {
            let left = tiles - start / tile;
            let some = left.div_ceil(PARTS * self.threads()) * tile;
            let (part, after) = rest.take()?.split_at_column(some);
            let range = start..start + part.columns();
            start = range.end;
            rest = (after.columns() > 0).then_some(after);
            Some((range, part))
        };
        share(crew, next, |(range, part)| work(range, part))
    }

    /// Who helps with a job of `count` parts, if anybody does.
    fn crew_for(&self, count: usize) -> Option<&Crew> {
        self.crew.as_ref().filter(|crew| count > 1 && crew.helps())
    }
}

/// Calls `work` with all parts that `next` gives, on all threads.
fn share<P: Send, E: Send>(
    crew: &Crew,
    next: impl FnMut() -> Option<P> + Send,
    work: impl Fn(P) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let source = Mutex::new((next, None));
    crew.run(&|| {
        loop {
            let part = {
                let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
                let (next, failure) = &mut *source;
                if failure.is_some() { None } else { next() }
            };
            let Some(part) = part else { return };
            if let Err(error) = work(part) {
                let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
                source.1.get_or_insert(error);
            }
        }
    });
    let (_, failure) = source.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

/// Threads for tract's own operators.
///
/// # Errors
/// [`Error::Usage`] when the operating system doesn't give them.
pub(crate) fn graph_threads(count: usize) -> Result<Arc<rayon::ThreadPool>, Error> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|index| format!("furlong-graph-{index}"))
        .build();
    threads
        .map(Arc::new)
        .map_err(|error| no_threads(count, &error))
}

fn no_threads(count: usize, error: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!(
        "can't start {count} threads: {error}; ask for fewer"
    ))
}
