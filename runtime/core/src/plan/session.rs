//! A plan at work in an arena: what it has read, and how far it is with what it is to read.

use super::execute::{Execution, MISFIT, split};
use super::{ARENA_ALIGN, Plan, PlanError, PlanKind, cast};
use crate::Isa;
use crate::sampler::Sampler;

/// What a call of [`Session::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// Nothing: there is nothing to read.
    Idle,
    /// Some work of an op.
    Worked {
        /// The op.
        op: u16,
        /// Whether it was the rest of it.
        done: bool,
    },
    /// Everything is read: the logits after the last token, or the encoder's output, are there.
    Ready,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for tokens, or for the next tile to begin.
    Waiting,
    /// In the middle of a tile.
    Reading {
        /// Tokens of the tile.
        tokens: usize,
        /// The op in work.
        op: usize,
        /// The part of it that is next.
        part: usize,
    },
    /// All is read and the output is there.
    Ready,
}

/// A sequence of tokens that a plan has read, in an arena of its own.
#[derive(Debug)]
pub struct Session<'p, 'a> {
    plan: Plan<'p>,
    isa: Isa,
    /// As long as the plan needs, and aligned.
    arena: &'a mut [u8],
    /// Tokens that were read.
    len: usize,
    /// Tokens that were fed: the first of the token buffer.
    fed: usize,
    state: State,
}

impl<'p, 'a> Session<'p, 'a> {
    /// An empty session that works in `arena`, whose contents don't matter.
    ///
    /// # Errors
    /// [`PlanError::Arena`] when it is smaller than the header's `arena_bytes` from the first multiple of
    /// [`ARENA_ALIGN`] on; [`PlanError::Isa`] when this CPU lacks the instructions that the weights are packed for.
    pub fn new(plan: Plan<'p>, arena: &'a mut [u8]) -> Result<Session<'p, 'a>, PlanError> {
        let isa = Isa::new(plan.header.isa).ok_or(PlanError::Isa(plan.header.isa))?;
        let skip = arena.as_ptr().align_offset(ARENA_ALIGN);
        let needed = plan.header.arena_bytes;
        let given = u32::try_from(arena.len()).unwrap_or(u32::MAX);
        let end = skip.saturating_add(needed as usize);
        let arena = arena.get_mut(skip..end).ok_or(PlanError::Arena {
            needed: u32::try_from(end).unwrap_or(needed),
            given,
        })?;
        Ok(Session {
            plan,
            isa,
            arena,
            len: 0,
            fed: 0,
            state: State::Waiting,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan<'p> {
        &self.plan
    }

    /// How many tokens the session has read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has read nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more tokens can be fed.
    pub fn room(&self) -> usize {
        (self.plan.header.context as usize).saturating_sub(self.fed)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Forgets all tokens from the `len`-th on, and those that were fed but not read.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.fed = self.len;
        self.state = State::Waiting;
    }

    /// Gives the session tokens to read; [`Session::step`] reads them. For an encoder they are all of a sentence, and
    /// what was before is forgotten.
    ///
    /// # Errors
    /// [`PlanError::Usage`] for no tokens or while others are being read, [`PlanError::ContextFull`],
    /// [`PlanError::Token`]. Nothing is changed then.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<(), PlanError> {
        let reads = self.plan.header.kind != PlanKind::Features;
        if tokens.is_empty() || matches!(self.state, State::Reading { .. }) || !reads {
            return Err(PlanError::Usage);
        }
        let vocabulary = self.plan.header.vocabulary;
        if let Some(&token) = tokens.iter().find(|&&token| token >= vocabulary) {
            return Err(PlanError::Token(token));
        }
        let is_encoder = self.plan.header.kind == PlanKind::Encoder;
        let before = if is_encoder { 0 } else { self.fed };
        let [words] = split(&self.plan, self.arena, [self.plan.header.tokens])?;
        let room = cast::words_mut(words)?
            .get_mut(before..)
            .unwrap_or_default();
        let room = room.get_mut(..tokens.len()).ok_or(PlanError::ContextFull)?;
        room.iter_mut()
            .zip(tokens)
            .for_each(|(to, &token)| *to = token);
        if is_encoder {
            self.len = 0;
        }
        self.fed = before.saturating_add(tokens.len());
        self.state = State::Waiting;
        Ok(())
    }

    /// Where the features go that the session reads next, row by row as the model's graph has them; what was before is
    /// forgotten. All of them have to be written anew each time: the ops use the place for other things later.
    ///
    /// # Errors
    /// [`PlanError::Usage`] for a plan that reads tokens, or while others are being read.
    pub fn features_mut(&mut self) -> Result<&mut [f32], PlanError> {
        let header = &self.plan.header;
        let reads = header.kind == PlanKind::Features;
        if matches!(self.state, State::Reading { .. }) || !reads {
            return Err(PlanError::Usage);
        }
        self.len = 0;
        self.fed = header.context as usize;
        self.state = State::Waiting;
        let [bytes] = split(&self.plan, self.arena, [header.tokens])?;
        Ok(cast::floats_mut(bytes)?)
    }

    /// Gives the session a matrix of features to read. [`Session::features_mut`] does without a copy.
    ///
    /// # Errors
    /// As there, and for another number of them than the model wants.
    pub fn feed_features(&mut self, features: &[f32]) -> Result<(), PlanError> {
        let before = (self.len, self.fed, self.state);
        let room = self.features_mut()?;
        if room.len() != features.len() {
            (self.len, self.fed, self.state) = before;
            return Err(PlanError::Usage);
        }
        let places = room.iter_mut().zip(features);
        places.for_each(|(to, from)| *to = *from);
        Ok(())
    }

    /// Forgets everything, and gives the session a prompt to read: what the plan's tokenizer makes of it, with what the model
    /// wants around it. Takes time in proportion to the square of the text's length.
    ///
    /// # Errors
    /// [`PlanError::Usage`] for a plan without a tokenizer or a prompt without tokens, [`PlanError::ContextFull`].
    pub fn prompt(&mut self, text: &str) -> Result<(), PlanError> {
        self.reset();
        let header = &self.plan.header;
        let (Some(tokenizer), Some(work)) = (self.plan.tokenizer(), header.text) else {
            return Err(PlanError::Usage);
        };
        let [tokens, work] = split(&self.plan, self.arena, [header.tokens, work])?;
        let mut places = cast::words_mut(tokens)?.iter_mut();
        let mut count = 0;
        tokenizer.encode(text, cast::words_mut(work)?, |token| {
            *places.next().ok_or(PlanError::ContextFull)? = token;
            count += 1;
            Ok(())
        })?;
        if count == 0 {
            return Err(PlanError::Usage);
        }
        self.fed = count;
        Ok(())
    }

    /// Does a bounded amount of work: one op, or a part of a long one.
    ///
    /// # Errors
    /// What a kernel refuses, which for a plan that was checked is a bug. The tokens that were not read are forgotten.
    pub fn step(&mut self) -> Result<Step, PlanError> {
        let (tokens, op, part) = match self.state {
            State::Reading { tokens, op, part } => (tokens, op, part),
            State::Ready => return Ok(Step::Ready),
            State::Waiting => {
                let tile = self.plan.header.tile as usize;
                match self.fed.saturating_sub(self.len).min(tile) {
                    0 => return Ok(Step::Idle),
                    tokens => (tokens, 0, 0),
                }
            }
        };
        let next = self.work(tokens, op, part);
        let (op, part) = match next {
            Ok(None) => (op.saturating_add(1), 0),
            Ok(Some(part)) => (op, part),
            Err(error) => {
                self.truncate(self.len);
                return Err(error);
            }
        };
        let end = self.len.saturating_add(tokens);
        let is_last = end >= self.fed;
        let last_op = match is_last {
            true => self.plan.op_count(),
            false => self.plan.header.head as usize,
        };
        let worked = match next {
            Ok(None) => (op.saturating_sub(1), true),
            _ => (op, false),
        };
        if op < last_op {
            self.state = State::Reading { tokens, op, part };
        } else {
            self.len = end;
            self.state = if is_last {
                State::Ready
            } else {
                State::Waiting
            };
        }
        let (op, done) = worked;
        Ok(Step::Worked {
            op: op as u16,
            done,
        })
    }

    /// Reads all that was fed without a pause, and gives the output: for callers that have nothing else to do.
    ///
    /// # Errors
    /// [`PlanError::Usage`] when nothing was fed; as [`Session::step`].
    pub fn finish(&mut self) -> Result<&mut [f32], PlanError> {
        loop {
            match self.step()? {
                Step::Worked { .. } => {}
                Step::Idle => return Err(PlanError::Usage),
                Step::Ready => break,
            }
        }
        self.output().ok_or(PlanError::Usage)
    }

    /// What an encoder makes of a text: an embedding, or the logits of classes. [`Session::prompt`] and [`Session::finish`] in
    /// one.
    ///
    /// # Errors
    /// As these two.
    pub fn encode(&mut self, text: &str) -> Result<&mut [f32], PlanError> {
        self.prompt(text)?;
        self.finish()
    }

    fn work(&mut self, tokens: usize, op: usize, part: usize) -> super::execute::Progress {
        let op = self.plan.op(op)?;
        let mut execution = Execution {
            plan: &self.plan,
            isa: self.isa,
            arena: self.arena,
            first: self.len,
            tokens,
        };
        execution.run(&op, part)
    }

    /// The logits of the next token `[vocabulary]`, or the encoder's output, when everything fed is read.
    pub fn output(&mut self) -> Option<&mut [f32]> {
        if self.state != State::Ready {
            return None;
        }
        let [bytes] = split(&self.plan, self.arena, [self.plan.header.output]).ok()?;
        cast::floats_mut(bytes).ok()
    }

    /// Draws the next token from the logits, which are changed by a repetition penalty.
    ///
    /// # Errors
    /// [`PlanError::Usage`] before everything fed is read, and for an encoder.
    pub fn sample(&mut self, sampler: &mut Sampler) -> Result<u32, PlanError> {
        let header = &self.plan.header;
        if self.state != State::Ready || header.kind != PlanKind::Decoder {
            return Err(PlanError::Usage);
        }
        let (isa, len) = (self.isa, self.len);
        let token = match header.candidates {
            Some(candidates) => {
                let ids = [header.output, header.tokens, candidates];
                let [logits, tokens, candidates] = split(&self.plan, self.arena, ids)?;
                let recent = cast::words(tokens)?.get(..len).ok_or(MISFIT)?;
                let candidates = cast::candidates_mut(candidates)?;
                sampler.sample(isa, cast::floats_mut(logits)?, recent, candidates)?
            }
            None => {
                let ids = [header.output, header.tokens];
                let [logits, tokens] = split(&self.plan, self.arena, ids)?;
                let recent = cast::words(tokens)?.get(..len).ok_or(MISFIT)?;
                sampler.sample(isa, cast::floats_mut(logits)?, recent, &mut [])?
            }
        };
        Ok(token)
    }
}
