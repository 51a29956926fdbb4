//! The threads of a model, and how an op divides its work among them.

use std::num::NonZeroUsize;
use std::ops::Range;

use furlong_core::MatrixMut;

use crate::Error;

/// A fixed number of threads. One thread means the caller's own.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: NonZeroUsize,
    workers: Option<rayon::ThreadPool>,
}

impl Pool {
    /// A pool of `threads` threads.
    ///
    /// # Errors
    /// [`Error::Usage`] when the operating system doesn't give them.
    pub(crate) fn new(threads: NonZeroUsize) -> Result<Pool, Error> {
        let workers = match threads.get() {
            1 => None,
            count => {
                let builder = rayon::ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|index| format!("furlong-{index}"));
                let workers = builder.build().map_err(|error| {
                    Error::Usage(format!(
                        "can't start {count} threads: {error}; ask for fewer"
                    ))
                })?;
                Some(workers)
            }
        };
        Ok(Pool { threads, workers })
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads.get()
    }

    /// Runs `work` on the pool. What it divides further is then cheap to hand over.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.workers {
            Some(workers) => workers.install(work),
            None => work(),
        }
    }

    /// Calls `work` with each of `jobs`, in any order.
    ///
    /// # Errors
    /// An error of one of them.
    pub(crate) fn for_each<J: Send, E: Send>(
        &self,
        jobs: Vec<J>,
        work: impl Fn(J) -> Result<(), E> + Sync + Send,
    ) -> Result<(), E> {
        use rayon::iter::{IntoParallelIterator, ParallelIterator};
        match &self.workers {
            Some(workers) => workers.install(|| jobs.into_par_iter().try_for_each(work)),
            None => jobs.into_iter().try_for_each(work),
        }
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
        let columns = 0..out.columns();
        if self.workers.is_none() {
            return work(columns, out);
        }
        divide(self.threads(), tile.max(1), columns, out, work)
    }
}

fn divide<E: Send>(
    pieces: usize,
    tile: usize,
    columns: Range<usize>,
    out: MatrixMut<'_>,
    work: &(impl Fn(Range<usize>, MatrixMut<'_>) -> Result<(), E> + Sync),
) -> Result<(), E> {
    let tiles = columns.len().div_ceil(tile);
    if pieces <= 1 || tiles <= 1 {
        return work(columns, out);
    }
    let left_pieces = pieces / 2;
    let left_tiles = (tiles * left_pieces).div_ceil(pieces).min(tiles - 1);
    let middle = left_tiles * tile;
    let (left, right) = out.split_at_column(middle);
    let split = columns.start + middle;
    let (left_columns, right_columns) = (columns.start..split, split..columns.end);
    let (first, second) = rayon::join(
        || divide(left_pieces, tile, left_columns, left, work),
        || divide(pieces - left_pieces, tile, right_columns, right, work),
    );
    first.and(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_visited_once_and_parts_start_on_tiles() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
            for columns in [1, 7, 16, 50] {
                let mut values = vec![0.0; 2 * columns];
                let out = MatrixMut::new(&mut values, 2, columns).unwrap();
                let work = |range: Range<usize>, mut part: MatrixMut<'_>| {
                    assert!(range.start.is_multiple_of(8));
                    for row in 0..2 {
                        let row = part.row_mut(row).ok_or(())?;
                        assert_eq!(row.len(), range.len());
                        row.iter_mut()
                            .zip(range.clone())
                            .for_each(|(v, c)| *v += 1.0 + c as f32);
                    }
                    Ok::<(), ()>(())
                };
                pool.enter(|| pool.for_columns(out, 8, &work)).unwrap();
                for row in values.chunks(columns) {
                    assert!(row.iter().enumerate().all(|(c, &v)| v == 1.0 + c as f32));
                }
            }
        }
    }
}
