//! Working memory that the ops of one session share, so that a token allocates little.

use std::sync::Mutex;

use tract_core::internal::EvalContext;

use crate::weights::Buffer;

/// Working memory of an op while it runs; nothing in it outlives the op.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Prepared activations.
    pub activations: Buffer,
    /// All tokens' queries, ready to attend with.
    pub queries: Vec<f32>,
    /// All new tokens' keys.
    pub keys: Vec<f32>,
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
