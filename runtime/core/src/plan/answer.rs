//! An answer, token by token: reads the prompt, samples, reads what it sampled, until something says stop.

use super::{PlanError, Session, Step};
use crate::sampler::{Sampler, SamplingParams};

/// What a call of [`Answer::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// Some work of an op.
    Worked {
        /// The op.
        op: u16,
        /// Whether it was the rest of it.
        done: bool,
    },
    /// The next token of the answer.
    Token(u32),
    /// The answer is whole.
    Finished(Finish),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Finish {
    /// The model ended its text.
    Stop,
    /// The number of tokens asked for is reached.
    Length,
    /// The context is full.
    Context,
}

/// An answer in the making. The session is lent to each call, so that its owner can look at it in between.
#[derive(Debug)]
pub struct Answer {
    sampler: Sampler,
    left: usize,
    finish: Option<Finish>,
}

impl Answer {
    /// Begins to answer a prompt, given as tokens: what the session held before is forgotten. `sampling` is the plan's own
    /// if absent.
    ///
    /// # Errors
    /// As [`Session::feed`], and sampling parameters that are out of range.
    pub fn to_tokens(
        session: &mut Session<'_, '_>,
        prompt: &[u32],
        most_tokens: usize,
        sampling: Option<SamplingParams>,
    ) -> Result<Answer, PlanError> {
        session.reset();
        session.feed(prompt)?;
        Answer::to_what_was_fed(session, most_tokens, sampling)
    }

    /// As [`Answer::to_tokens`], of a prompt that the plan's tokenizer reads.
    ///
    /// # Errors
    /// As [`Session::prompt`], and sampling parameters that are out of range.
    pub fn to_text(
        session: &mut Session<'_, '_>,
        prompt: &str,
        most_tokens: usize,
        sampling: Option<SamplingParams>,
    ) -> Result<Answer, PlanError> {
        session.prompt(prompt)?;
        Answer::to_what_was_fed(session, most_tokens, sampling)
    }

    /// Begins to answer what was fed to the session already.
    ///
    /// # Errors
    /// Sampling parameters that are out of range.
    pub fn to_what_was_fed(
        session: &Session<'_, '_>,
        most_tokens: usize,
        sampling: Option<SamplingParams>,
    ) -> Result<Answer, PlanError> {
        Ok(Answer {
            sampler: Sampler::new(sampling.unwrap_or(session.plan().header().sampling))?,
            left: most_tokens,
            finish: (most_tokens == 0).then_some(Finish::Length),
        })
    }

    /// Does a bounded amount of work.
    ///
    /// # Errors
    /// As [`Session::step`] and [`Session::sample`].
    pub fn step(&mut self, session: &mut Session<'_, '_>) -> Result<Event, PlanError> {
        if let Some(finish) = self.finish {
            return Ok(Event::Finished(finish));
        }
        match session.step()? {
            Step::Worked { op, done } => Ok(Event::Worked { op, done }),
            Step::Idle => Err(PlanError::Usage),
            Step::Ready => self.choose(session),
        }
    }

    fn choose(&mut self, session: &mut Session<'_, '_>) -> Result<Event, PlanError> {
        let token = session.sample(&mut self.sampler)?;
        if session.plan().header().ends.contains(&token) {
            self.finish = Some(Finish::Stop);
            return Ok(Event::Finished(Finish::Stop));
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.finish = Some(Finish::Length);
        } else if session.room() == 0 {
            self.finish = Some(Finish::Context);
        } else {
            session.feed(&[token])?;
        }
        Ok(Event::Token(token))
    }
}
