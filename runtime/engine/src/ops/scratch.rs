//! Working memory that the ops of one session share, so that a token allocates little.

use std::sync::{Arc, Mutex};

use tract_core::internal::EvalContext;

use crate::adapter::LowRankModel;
use crate::weights::{LinearScratch, LowRank};

/// Working memory of an op while it runs; nothing in it outlives the op.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// A linear layer's.
    pub linear: LinearScratch,
    /// All tokens' queries, ready to attend with.
    pub queries: Vec<f32>,
    /// All new tokens' keys.
    pub keys: Vec<f32>,
}

/// What the ops of one session share, put into tract's turn state: working memory, and the adapter.
#[derive(Debug, Default)]
pub(crate) struct SessionScratch {
    scratch: Mutex<Scratch>,
    adapter: Option<Arc<LowRankModel>>,
}

impl SessionScratch {
    /// That of a session with this adapter.
    pub(crate) fn new(adapter: Option<Arc<LowRankModel>>) -> SessionScratch {
        SessionScratch {
            scratch: Mutex::default(),
            adapter,
        }
    }

    /// Calls `work` with the session's working memory, or with fresh memory where there is no session.
    pub(crate) fn with<R>(ctx: &EvalContext, work: impl FnOnce(&mut Scratch) -> R) -> R {
        match SessionScratch::of(ctx).map(|shared| shared.scratch.try_lock()) {
            Some(Ok(mut scratch)) => work(&mut scratch),
            _ => work(&mut Scratch::default()),
        }
    }

    /// As [`SessionScratch::with`], with what the session's adapter adds to the op at `slot`.
    pub(crate) fn with_adapter<R>(
        ctx: &EvalContext,
        slot: usize,
        work: impl FnOnce(&mut LinearScratch, Option<&LowRank>) -> R,
    ) -> R {
        let adapter = SessionScratch::of(ctx).and_then(|shared| shared.adapter.as_deref());
        let layer = adapter.and_then(|adapter| adapter.op(slot));
        SessionScratch::with(ctx, |scratch| work(&mut scratch.linear, layer))
    }

    fn of<'c>(ctx: &EvalContext<'c>) -> Option<&'c SessionScratch> {
        ctx.shared?.get::<SessionScratch>()
    }
}
