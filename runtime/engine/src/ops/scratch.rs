//! Working memory that the ops of one session share, so that a token allocates little.

use std::sync::Mutex;

use furlong_core::attention::{Q8Queries, narrow_queries, q8_columns, q8_scales};
use furlong_core::{Error, Isa};
use tract_core::internal::EvalContext;

use crate::pool::Pool;
use crate::weights::Buffer;

/// Working memory of an op while it runs; nothing in it outlives the op.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Prepared activations.
    pub activations: Buffer,
    /// All tokens' queries, ready to attend with.
    pub queries: Vec<f32>,
    /// The queries in 8 bits, for a cache of 8 bits.
    pub narrow: NarrowQueries,
    /// All new tokens' keys.
    pub keys: Vec<f32>,
}

/// Queries in 8 bits.
#[derive(Debug, Default)]
pub(crate) struct NarrowQueries {
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl NarrowQueries {
    /// Rounds the rows of `queries` `[rows, columns]`, `at_once` by one thread.
    pub(crate) fn fill(
        &mut self,
        isa: Isa,
        pool: &Pool,
        queries: &[f32],
        columns: usize,
        at_once: usize,
    ) -> Result<(), Error> {
        let rows = queries.len() / columns.max(1);
        let (codes, scales) = (q8_columns(columns), q8_scales(columns));
        self.codes.resize(rows * codes, 0);
        self.scales.resize(rows * scales, 0.0);
        self.sums.resize(rows * scales, 0);
        let narrow =
            |(x, ((codes, scales), sums))| narrow_queries(isa, x, columns, codes, scales, sums);
        let at_once = at_once.max(1);
        let mut parts = queries.chunks(at_once * columns).zip(
            self.codes
                .chunks_mut(at_once * codes)
                .zip(self.scales.chunks_mut(at_once * scales))
                .zip(self.sums.chunks_mut(at_once * scales)),
        );
        if rows <= at_once {
            return parts.try_for_each(narrow);
        }
        pool.for_each(parts.collect(), narrow)
    }

    /// All of them.
    pub(crate) fn view(&self) -> Q8Queries<'_> {
        Q8Queries {
            codes: &self.codes,
            scales: &self.scales,
            sums: &self.sums,
        }
    }
}

/// One session's working memory, put into tract's turn state.
#[derive(Debug, Default)]
pub(crate) struct SessionScratch(Mutex<Scratch>);

impl SessionScratch {
    /// Calls `work` with the session's working memory, or with fresh memory where there is no session.
    pub(crate) fn with<R>(ctx: &EvalContext, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let shared = ctx.shared.and_then(|shared| shared.get::<SessionScratch>());
        match shared.map(|shared| shared.0.try_lock()) {
            Some(Ok(mut scratch)) => work(&mut scratch),
            _ => work(&mut Scratch::default()),
        }
    }
}
