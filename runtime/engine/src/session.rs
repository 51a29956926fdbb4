//! One conversation with a decoder: what it has read so far, as the keys and values of every layer.

use std::path::Path;
use std::time::Instant;

use tract_core::internal::*;

use crate::adapter::Adapter;
use crate::model::{Inner, Model, ModelKind};
use crate::ops::{KvState, SessionScratch};
use crate::profile::{Profile, Recorder};
use crate::weights::LinearScratch;
use crate::{Error, plan};

/// Positions whose logits are computed at once when all are wanted.
const HEAD_ROWS: usize = 16;

/// A sequence of tokens that a decoder has read. It may go to another thread; sessions of one model may run at
/// the same time.
pub struct Session {
    model: Model,
    state: TypedSimpleState,
    len: usize,
    logits: Vec<f32>,
    scratch: LinearScratch,
    adapter: Option<Adapter>,
    recorder: Option<Box<Recorder>>,
}

/// What an input of a decoder's graph is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputRole {
    /// The tokens, `[1, tokens]`.
    Tokens,
    /// Their positions, `[1, tokens]`.
    Positions,
    /// Ones for all tokens there will be then, `[1, positions]`.
    Mask,
}

impl InputRole {
    /// The role of the input of this name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a name that says nothing to us.
    pub(crate) fn of(path: &Path, name: &str) -> Result<InputRole, Error> {
        match name {
            "input_ids" => Ok(InputRole::Tokens),
            "position_ids" => Ok(InputRole::Positions),
            "attention_mask" => Ok(InputRole::Mask),
            _ => {
                let reason = format!(
                    "a decoder with an input {name:?}; inputs are input_ids, position_ids, attention_mask and the \
                     past of each layer"
                );
                Err(Error::unsupported(path, reason))
            }
        }
    }

    fn value(self, tokens: &[u32], first: usize) -> TractResult<TValue> {
        let count = match self {
            InputRole::Mask => first + tokens.len(),
            InputRole::Tokens | InputRole::Positions => tokens.len(),
        };
        let mut tensor = Tensor::zero::<i64>(&[1, count])?;
        let mut view = tensor.try_as_plain_ram_mut()?;
        let numbers = view.as_slice_mut::<i64>()?;
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = match self {
                InputRole::Tokens => tokens.get(index).map_or(0, |&token| token.into()),
                InputRole::Positions => (first + index) as i64,
                InputRole::Mask => 1,
            };
        }
        Ok(tensor.into_tvalue())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Session({} tokens of {})",
            self.len,
            self.model.context_length()
        )
    }
}

impl Session {
    pub(crate) fn new(model: &Model) -> Result<Session, Error> {
        if model.kind() != ModelKind::Decoder {
            return Err(Error::Usage(format!(
                "{} is an encoder, which has no sessions; use `encode`",
                model.path().display()
            )));
        }
        let state = model
            .inner
            .compiled
            .plan
            .spawn()
            .map_err(|error| Error::run(&error))?;
        Ok(Session::with_state(
            model.clone(),
            state,
            0,
            Vec::new(),
            None,
        ))
    }

    fn with_state(
        model: Model,
        state: TypedSimpleState,
        len: usize,
        logits: Vec<f32>,
        adapter: Option<Adapter>,
    ) -> Session {
        let mut session = Session {
            model,
            state,
            len,
            logits,
            scratch: LinearScratch::default(),
            adapter: None,
            recorder: None,
        };
        session.replace_adapter(adapter);
        session
    }

    /// Lets the ops know of another adapter. Their working memory is fresh then.
    pub(crate) fn replace_adapter(&mut self, adapter: Option<Adapter>) {
        let layers = adapter.as_ref().map(|adapter| adapter.layers().clone());
        let shared = &mut self.state.turn_state.shared;
        shared.insert(SessionScratch::new(layers));
        self.adapter = adapter;
    }

    /// The adapter that the session answers with.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How many tokens the session has read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has read nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more tokens it can read.
    pub fn room(&self) -> usize {
        self.model.context_length().saturating_sub(self.len)
    }

    /// Bytes that the keys and values take now.
    pub fn cache_bytes(&self) -> usize {
        self.caches().map(|state| state.cache().bytes()).sum()
    }

    /// Reads tokens, and returns the logits of the token after the last one, `[vocab_size]`.
    ///
    /// # Errors
    /// [`Error::ContextFull`] when they don't fit, [`Error::Token`] for an id outside the vocabulary,
    /// [`Error::Usage`] for no tokens, [`Error::Run`] when the graph fails. The session is then as it was before.
    pub fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        self.read(tokens, false, |session, hidden, is_last| match is_last {
            true => session.last_logits(hidden),
            false => Ok(()),
        })?;
        Ok(&self.logits)
    }

    /// Reads tokens, and calls `visit` with the position of each and the logits of the token after it,
    /// `[vocab_size]`, in order.
    ///
    /// # Errors
    /// As [`Session::extend`].
    pub fn extend_all(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]) + Send,
    ) -> Result<(), Error> {
        self.read(tokens, true, |session, hidden, _| {
            session.all_logits(hidden, &mut visit)
        })
    }

    /// Reads tokens, and puts the logits after each into `rows`, `[tokens, vocab_size]`.
    ///
    /// # Errors
    /// As [`Session::extend`].
    pub fn extend_into(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), Error> {
        rows.clear();
        rows.reserve_exact(tokens.len() * self.model.inner.vocab_size);
        self.read(tokens, true, |session, hidden, _| {
            session.head(floats(hidden)?, columns(hidden), rows)
        })
    }

    /// Forgets all tokens from the `len`-th on; nothing happens if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        let len = self.len;
        for state in self.state.op_states.iter_mut().flatten() {
            if let Some(state) = state.downcast_mut::<KvState>() {
                state.truncate(len);
            }
        }
    }

    /// Forgets everything. The memory is kept for what comes next.
    pub fn reset(&mut self) {
        self.truncate(0);
        if let Some(recorder) = &mut self.recorder {
            recorder.pause();
        }
    }

    /// A second session that has read the same. The two share the memory of what they have in common until one of
    /// them goes on.
    pub fn fork(&self) -> Session {
        Session::with_state(
            self.model.clone(),
            self.state.clone(),
            self.len,
            self.logits.clone(),
            self.adapter.clone(),
        )
    }

    /// From now on keeps the time of each node of the graph; what was kept before is dropped.
    pub fn start_profile(&mut self) {
        self.recorder = Some(Box::default());
    }

    /// What reading has cost since [`Session::start_profile`]; nothing if that wasn't called.
    pub fn profile(&self) -> Option<Profile> {
        let recorder = self.recorder.as_ref()?;
        Some(recorder.profile(&self.model.inner))
    }

    fn caches(&self) -> impl Iterator<Item = &KvState> {
        self.state
            .op_states
            .iter()
            .flatten()
            .filter_map(|state| state.downcast_ref::<KvState>())
    }

    /// Reads tokens chunk by chunk, and calls `visit` with each chunk's output. `all_positions` says what for: see
    /// [`Profile`].
    fn read(
        &mut self,
        tokens: &[u32],
        all_positions: bool,
        mut visit: impl FnMut(&mut Session, &Tensor, bool) -> TractResult<()> + Send,
    ) -> Result<(), Error> {
        let inner = self.model.inner.clone();
        self.check(&inner, tokens)?;
        let start = self
            .recorder
            .as_mut()
            .map(|recorder| recorder.begin(tokens.len(), all_positions));
        let before = self.len;
        let chunks = tokens.len().div_ceil(inner.prefill_chunk);
        let result = inner.machine.pool.enter(|| {
            for (index, chunk) in tokens.chunks(inner.prefill_chunk).enumerate() {
                let hidden = self.run(&inner, chunk)?;
                visit(self, &hidden, index + 1 == chunks)?;
            }
            Ok(())
        });
        if let (Some(recorder), Some(start)) = (&mut self.recorder, start) {
            recorder.end(start);
        }
        result.map_err(|error| {
            self.truncate(before);
            if let Err(error) = self.state.reset_turn() {
                log::warn!("a failed turn was not cleared: {error:#}");
            }
            Error::run(&error)
        })
    }

    fn check(&self, inner: &Inner, tokens: &[u32]) -> Result<(), Error> {
        if tokens.is_empty() {
            return Err(Error::Usage(
                "there are no tokens to read; give at least one".into(),
            ));
        }
        let limit = inner.machine.context;
        if tokens.len() > limit - self.len {
            return Err(Error::ContextFull {
                len: self.len,
                asked: tokens.len(),
                limit,
            });
        }
        let vocab_size = inner.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(Error::Token { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// Runs the graph on tokens that follow what was read, and returns its output, `[1, tokens, columns]`.
    fn run(&mut self, inner: &Inner, tokens: &[u32]) -> TractResult<TValue> {
        let inputs = inner
            .roles
            .iter()
            .map(|role| role.value(tokens, self.len))
            .collect::<TractResult<TVec<_>>>()?;
        let mut outputs = plan::shielded(|| match &mut self.recorder {
            None => self.state.run(inputs),
            Some(recorder) => recorder.run(&mut self.state, inputs),
        })?;
        self.len += tokens.len();
        ensure!(!outputs.is_empty(), "the graph has no output");
        Ok(outputs.swap_remove(0))
    }

    /// Computes the logits of the last position.
    fn last_logits(&mut self, hidden: &Tensor) -> TractResult<()> {
        let (values, columns) = (floats(hidden)?, columns(hidden));
        let last = values
            .get(values.len().saturating_sub(columns)..)
            .unwrap_or_default();
        self.keep_head(last, columns)
    }

    /// Computes the logits of every position, some at a time.
    fn all_logits(
        &mut self,
        hidden: &Tensor,
        visit: &mut impl FnMut(usize, &[f32]),
    ) -> TractResult<()> {
        let (values, columns) = (floats(hidden)?, columns(hidden));
        let mut position = self.len - values.len() / columns;
        for rows in values.chunks(columns * HEAD_ROWS) {
            let count = rows.len() / columns;
            self.keep_head(rows, columns)?;
            for logits in self.logits.chunks(self.logits.len() / count.max(1)) {
                visit(position, logits);
                position += 1;
            }
        }
        Ok(())
    }

    /// [`Session::head`], whose results are what the session keeps.
    fn keep_head(&mut self, rows: &[f32], columns: usize) -> TractResult<()> {
        let mut logits = std::mem::take(&mut self.logits);
        logits.clear();
        let done = self.head(rows, columns, &mut logits);
        self.logits = logits;
        done
    }

    /// Applies the output layer to rows of `columns` numbers, where it isn't part of the graph; appends to `logits`.
    fn head(&mut self, rows: &[f32], columns: usize, logits: &mut Vec<f32>) -> TractResult<()> {
        let inner = &*self.model.inner;
        let Some(head) = &inner.head else {
            logits.extend_from_slice(rows);
            return Ok(());
        };
        let (count, before) = (rows.len() / columns, logits.len());
        logits.resize(before + count * head.rows(), 0.0);
        let logits = logits.get_mut(before..).unwrap_or_default();
        let adapter = self.adapter.as_ref().and_then(|a| a.layers().head());
        let (scratch, pool) = (&mut self.scratch, &inner.machine.pool);
        let start = self.recorder.as_ref().map(|_| Instant::now());
        head.apply(rows, count, logits, scratch, adapter, pool)
            .map_err(|error| format_err!("the output layer: {error}"))?;
        if let (Some(recorder), Some(start)) = (&mut self.recorder, start) {
            recorder.head(start);
        }
        Ok(())
    }
}

/// The columns of an output, at least one.
fn columns(output: &Tensor) -> usize {
    output.shape().last().copied().unwrap_or(0).max(1)
}

fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}
