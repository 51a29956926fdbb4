//! From a prompt to an answer: prefill, sample, decode, until something says stop.
//!
//! Tokens are drawn one after another from the logits of the model. Where [`Lookup`] guesses what comes, the guess goes
//! to the model together with the token before it, and the sampler draws from the logits of each position as long as
//! the guess is what it draws: the tokens, and the random numbers they cost, are those of a generation without guesses.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use furlong_core::Isa;
use furlong_core::sampler::{Candidate, Sampler, SamplingParams};
use serde::Serialize;

use super::lookup::Lookup;
use super::{StopStrings, Tokenizer};
use crate::{Adapter, Error, Session};

/// How many prompt tokens go to the model between two looks at the cancellation flag.
const PREFILL_SLICE: usize = 512;

/// What a [`Generator`] asks of a model: a sequence of tokens that grows, and the logits after its last one.
///
/// [`Session`](crate::Session) is the one in use; tests bring models of three lines.
pub trait TokenModel {
    /// Appends tokens; returns the logits `[vocab]` that follow the last one.
    ///
    /// # Errors
    /// Whatever the model fails at, a full context among it.
    fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], Error>;

    /// Appends tokens; puts the logits that follow each into `rows`, `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`TokenModel::extend`].
    fn extend_each(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), Error>;

    /// Forgets all but the first `len` tokens.
    fn truncate(&mut self, len: usize);

    /// The most tokens the sequence can have.
    fn context(&self) -> usize;
}

impl TokenModel for Session {
    fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        Session::extend(self, tokens)
    }

    fn extend_each(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), Error> {
        self.extend_into(tokens, rows)
    }

    fn truncate(&mut self, len: usize) {
        Session::truncate(self, len);
    }

    fn context(&self) -> usize {
        self.model().context_length()
    }
}

/// What to generate, and when to stop.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// How to choose each token.
    pub sampling: SamplingParams,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Go on past the tokens that end a text.
    pub ignore_eos: bool,
    /// The answer continues the prompt's own text, so that a leading space belongs to it. False for an answer in a
    /// conversation.
    pub continues: bool,
    /// The most tokens that are guessed at once from what was said before; 0 guesses none. The answer is the same.
    pub lookup: usize,
}

impl GenerateOptions {
    /// The most tokens that are guessed at once unless said otherwise: with the token before them they make a whole group of
    /// the matrix kernels.
    pub const LOOKUP: usize = 7;
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            ignore_eos: false,
            continues: false,
            lookup: GenerateOptions::LOOKUP,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its text, or a stop string turned up.
    Stop,
    /// The number of tokens asked for is reached.
    Length,
    /// The caller asked to stop.
    Cancelled,
    /// The model's context is full.
    Context,
}

/// What came out of a generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generation {
    /// The text, without the stop string that ended it.
    pub text: String,
    /// The ids generated, without the one that ended the text.
    pub tokens: Vec<u32>,
    /// How many tokens the prompt has.
    pub prompt_tokens: usize,
    /// How many of the prompt's tokens the session held already.
    pub reused_tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// How guesses fared.
    pub lookup: LookupStats,
    /// How long it took.
    pub timings: Timings,
}

/// How the guesses of [`GenerateOptions::lookup`] fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LookupStats {
    /// Tokens that were guessed.
    pub proposed: usize,
    /// Tokens among them that were right.
    pub accepted: usize,
}

/// Where the time of a generation went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Seconds for the prompt.
    pub prefill_s: f64,
    /// Prompt tokens a second, those that were held already left out.
    pub prefill_tok_s: f64,
    /// Seconds from the call to the first token.
    pub ttft_s: f64,
    /// Seconds from the first token to the last.
    pub decode_s: f64,
    /// Tokens a second after the first one.
    pub decode_tok_s: f64,
}

/// Generates text with one session, and keeps what the session holds from one prompt to the next.
#[derive(Debug)]
pub struct Generator<'a, M> {
    pub(super) model: M,
    tokenizer: &'a Tokenizer,
    /// The tokens the session holds.
    pub(super) held: Vec<u32>,
    /// Tokens that the session read at once because they were guessed; those that were right are held.
    guess: Vec<u32>,
    /// Logits `[guess + 1, vocab]`: before each token of the guess, and after the last.
    logits: Vec<f32>,
    /// The row of logits that is next, and so how many tokens of the guess were right.
    row: usize,
    candidates: Vec<Candidate>,
    isa: Isa,
}

impl<'a, M: TokenModel> Generator<'a, M> {
    /// Takes a session that holds nothing yet.
    pub fn new(model: M, tokenizer: &'a Tokenizer) -> Self {
        Self {
            model,
            tokenizer,
            held: Vec::new(),
            guess: Vec::new(),
            logits: Vec::new(),
            row: 0,
            candidates: Vec::new(),
            isa: Isa::detect(),
        }
    }

    /// Generates what follows `prompt`, the token ids of everything said so far.
    ///
    /// Only what differs from the tokens the session holds goes to the model, so that a conversation costs its new
    /// part. `on_text` gets each piece of text as it comes and may break off; so may `cancel`.
    ///
    /// # Errors
    /// An empty prompt or one longer than the context, bad stop strings, and a model that fails.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        cancel: &AtomicBool,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, Error> {
        let start = Instant::now();
        let mut stops = StopStrings::new(options.stop.clone())?;
        let mut sampler = Sampler::new(options.sampling).map_err(|_| bad_sampling())?;
        let mut lookup = Lookup::new(options.lookup);
        let mut stream = self.tokenizer.stream(options.continues);
        let eos = self.tokenizer.eos_ids();
        let mut out = Generation {
            text: String::new(),
            tokens: Vec::new(),
            prompt_tokens: prompt.len(),
            reused_tokens: 0,
            finish_reason: FinishReason::Length,
            lookup: LookupStats::default(),
            timings: Timings::default(),
        };
        if options.max_tokens == 0 {
            return Ok(out);
        }
        out.reused_tokens = self.rewind(prompt)?;
        let prefilled = self.prefill(prompt, cancel)?;
        let prefill = start.elapsed();
        let mut first = None;
        let mut stop_found = false;
        let mut piece = String::new();
        out.finish_reason = loop {
            if !prefilled || cancel.load(Ordering::Relaxed) {
                break FinishReason::Cancelled;
            }
            let token = self.sample(&mut sampler)?;
            first.get_or_insert_with(|| start.elapsed());
            if !options.ignore_eos && eos.contains(&token) {
                break FinishReason::Stop;
            }
            out.tokens.push(token);
            piece.clear();
            stream.push(token, &mut piece)?;
            let stopped = emit(&mut stops, &piece, &mut out.text, &mut on_text);
            match stopped {
                Emitted::Stopped => {
                    stop_found = true;
                    break FinishReason::Stop;
                }
                Emitted::Refused => break FinishReason::Cancelled,
                Emitted::Shown => {}
            }
            if out.tokens.len() >= options.max_tokens {
                break FinishReason::Length;
            }
            if self.held.len() >= self.model.context() {
                break FinishReason::Context;
            }
            let left = options.max_tokens - out.tokens.len();
            self.advance(token, left, &mut lookup, &mut out.lookup)?;
        };
        let total = start.elapsed();
        self.drop_guess();
        if !stop_found {
            piece.clear();
            stream.finish(&mut piece)?;
            finish(&mut stops, &piece, &mut out, &mut on_text);
        }
        out.timings = timings(&out, prefill, first.unwrap_or(total), total);
        Ok(out)
    }

    /// Forgets what the session holds.
    pub fn reset(&mut self) {
        self.drop_guess();
        self.held.clear();
        self.model.truncate(0);
    }

    /// How many tokens the session holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The session.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Takes the session back to what it has in common with `prompt`; returns how many tokens that is.
    fn rewind(&mut self, prompt: &[u32]) -> Result<usize, Error> {
        if prompt.is_empty() {
            return Err(Error::Usage(
                "the prompt has no tokens; give at least one word".to_owned(),
            ));
        }
        if prompt.len() > self.model.context() {
            return Err(Error::ContextFull {
                len: 0,
                asked: prompt.len(),
                limit: self.model.context(),
            });
        }
        // A generation that failed may have left a guess.
        self.drop_guess();
        let common = self
            .held
            .iter()
            .zip(prompt)
            .take_while(|(held, wanted)| held == wanted)
            .count();
        // The last token goes in again for its logits.
        let common = common.min(prompt.len() - 1);
        self.model.truncate(common);
        self.held.truncate(common);
        Ok(common)
    }

    /// Feeds the rest of the prompt; false when cancelled on the way.
    fn prefill(&mut self, prompt: &[u32], cancel: &AtomicBool) -> Result<bool, Error> {
        let rest = prompt.get(self.held.len()..).unwrap_or_default();
        for slice in rest.chunks(PREFILL_SLICE) {
            if cancel.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.extend(slice)?;
        }
        Ok(true)
    }

    fn sample(&mut self, sampler: &mut Sampler) -> Result<u32, Error> {
        let vocab = self.logits.len() / (self.guess.len() + 1);
        let room = sampler.scratch_len(vocab);
        self.candidates.resize(room, Candidate::default());
        let row = self.row * vocab..(self.row + 1) * vocab;
        let logits = self.logits.get_mut(row).unwrap_or_default();
        sampler
            .sample(self.isa, logits, &self.held, &mut self.candidates)
            .map_err(|error| Error::Run(format!("choosing a token failed: {error}")))
    }

    /// Makes the logits after `token` the next ones. There may be `left` tokens more.
    fn advance(
        &mut self,
        token: u32,
        left: usize,
        lookup: &mut Lookup,
        stats: &mut LookupStats,
    ) -> Result<(), Error> {
        if self.guess.get(self.row) == Some(&token) {
            self.held.push(token);
            self.row += 1;
            stats.accepted += 1;
            return Ok(());
        }
        if !self.guess.is_empty() {
            lookup.learn(self.guess.len(), self.row);
        }
        self.drop_guess();
        self.held.push(token);
        // The last token needs no guess: the logits after those before it give it.
        let room = (left - 1).min(self.model.context() - self.held.len());
        lookup.guess(&self.held, room, &mut self.guess);
        self.held.pop();
        if self.guess.is_empty() {
            return self.extend(&[token]);
        }
        stats.proposed += self.guess.len();
        let tokens = [&[token], self.guess.as_slice()].concat();
        let read = self.model.extend_each(&tokens, &mut self.logits);
        if read.is_err() {
            self.guess.clear();
        }
        read?;
        self.held.push(token);
        Ok(())
    }

    /// Makes the session forget what was guessed wrong.
    fn drop_guess(&mut self) {
        if self.row < self.guess.len() {
            self.model.truncate(self.held.len());
        }
        self.guess.clear();
        self.row = 0;
    }

    fn extend(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let logits = self.model.extend(tokens)?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.held.extend_from_slice(tokens);
        Ok(())
    }
}

impl Generator<'_, Session> {
    /// Forgets what the session holds, and answers with this adapter, or none, from now on.
    ///
    /// # Errors
    /// As [`Session::set_adapter`].
    pub fn set_adapter(&mut self, adapter: Option<&Adapter>) -> Result<(), Error> {
        self.reset();
        self.model.set_adapter(adapter)
    }
}

fn bad_sampling() -> Error {
    Error::Usage(
        "temperature, top-p, min-p and repetition penalty must be finite and not negative, \
         and the repetition penalty not zero"
            .to_owned(),
    )
}

enum Emitted {
    Shown,
    Stopped,
    Refused,
}

/// Lets a piece of text through the stop strings to the answer and to the caller.
fn emit(
    stops: &mut StopStrings,
    piece: &str,
    text: &mut String,
    on_text: &mut impl FnMut(&str) -> ControlFlow<()>,
) -> Emitted {
    let before = text.len();
    let stopped = stops.push(piece, text);
    let new = text.get(before..).unwrap_or_default();
    let refused = !new.is_empty() && on_text(new).is_break();
    match (stopped, refused) {
        (true, _) => Emitted::Stopped,
        (false, true) => Emitted::Refused,
        (false, false) => Emitted::Shown,
    }
}

/// Shows what the decoder and the stop strings still held back.
fn finish(
    stops: &mut StopStrings,
    piece: &str,
    out: &mut Generation,
    on_text: &mut impl FnMut(&str) -> ControlFlow<()>,
) {
    let before = out.text.len();
    if stops.push(piece, &mut out.text) {
        out.finish_reason = FinishReason::Stop;
    }
    stops.finish(&mut out.text);
    let new = out.text.get(before..).unwrap_or_default();
    if !new.is_empty() {
        // The generation is over: there is nothing left to break off.
        let _ = on_text(new);
    }
}

fn timings(out: &Generation, prefill: Duration, first: Duration, total: Duration) -> Timings {
    let rate = |count: usize, seconds: f64| {
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    };
    let prefill_s = prefill.as_secs_f64();
    let decode_s = total.saturating_sub(first).as_secs_f64();
    Timings {
        prefill_s,
        prefill_tok_s: rate(out.prompt_tokens - out.reused_tokens, prefill_s),
        ttft_s: first.as_secs_f64(),
        decode_s,
        decode_tok_s: rate(out.tokens.len().saturating_sub(1), decode_s),
    }
}
