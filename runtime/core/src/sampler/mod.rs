//! Choosing the next token from logits, the same on every machine for one seed.
//!
//! The steps, in this order: repetition penalty (N. S. Keskar and others, «CTRL», 2019, arXiv 1909.05858);
//! temperature; top-k (A. Fan and others, 2018, arXiv 1805.04833); top-p (A. Holtzman and others, 2019,
//! arXiv 1904.09751); min-p (M. Nguyen and others, 2024, arXiv 2407.01082); a draw.

mod random;

use crate::argmax::argmax;
use crate::math::seldom_exp;
use crate::{Error, Isa, Operand};
use core::cmp::Ordering;
use random::Pcg32;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SamplingParams {
    /// 0 takes the most likely token; larger flattens the distribution.
    pub temperature: f32,
    /// Keep so many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this share as likely as the most likely; 0 keeps all.
    pub min_p: f32,
    /// Positive logits of recent tokens are divided by it, negative ones multiplied; 1 changes nothing.
    pub repetition_penalty: f32,
    /// How many of the latest tokens the penalty looks at.
    pub repetition_window: usize,
    /// Start of the random numbers.
    pub seed: u64,
}

impl SamplingParams {
    /// The most likely token, always.
    pub const GREEDY: SamplingParams = SamplingParams {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        repetition_window: 64,
        seed: 0,
    };
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams::GREEDY
    }
}

/// A token that may be chosen; the sampler's working memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct Candidate {
    /// Token.
    pub id: u32,
    /// Its logit, and after the softmax its weight.
    pub weight: f32,
}

/// Draws tokens; holds the state of the random numbers.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: Pcg32,
}

impl Sampler {
    /// A sampler at the start of its seed's sequence.
    ///
    /// # Errors
    /// [`Error::Sampling`] when a parameter is negative, infinite or NaN, or the penalty is zero.
    pub fn new(params: SamplingParams) -> Result<Sampler, Error> {
        let fine = |value: f32| value.is_finite() && value >= 0.0;
        let all = fine(params.temperature)
            && fine(params.top_p)
            && fine(params.min_p)
            && fine(params.repetition_penalty);
        if !all || params.repetition_penalty == 0.0 {
            return Err(Error::Sampling);
        }
        Ok(Sampler {
            params,
            random: Pcg32::new(params.seed, STREAM),
        })
    }

    /// The parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// How many candidates [`Sampler::sample`] can use for this vocabulary: 0 when greedy, `top_k` if set.
    pub fn scratch_len(&self, vocabulary: usize) -> usize {
        match self.params {
            SamplingParams {
                temperature: 0.0, ..
            } => 0,
            SamplingParams { top_k: 0, .. } => vocabulary,
            SamplingParams { top_k, .. } => top_k.min(vocabulary),
        }
    }

    /// Chooses a token. `logits` `[vocabulary]` are changed by the penalty; `recent` are the tokens so far, the latest
    /// last. With a `scratch` shorter than [`Sampler::scratch_len`] only that many of the most likely tokens compete.
    /// NaN logits are never chosen while there is another.
    ///
    /// # Errors
    /// [`Error::Length`] when `logits` is empty, or `scratch` is although it is needed.
    pub fn sample(
        &mut self,
        isa: Isa,
        logits: &mut [f32],
        recent: &[u32],
        scratch: &mut [Candidate],
    ) -> Result<u32, Error> {
        self.penalise(logits, recent);
        let best = argmax(isa, logits).ok_or(Error::Length(Operand::Input))?;
        let id = |index: usize| u32::try_from(index).map_err(|_| Error::Overflow);
        if self.params.temperature == 0.0 {
            return id(best);
        }
        let wanted = self.scratch_len(logits.len());
        let room = scratch.len().min(wanted);
        let scratch = scratch
            .get_mut(..room)
            .filter(|s| !s.is_empty())
            .ok_or(Error::Length(Operand::Scratch))?;
        let kept = collect(logits, scratch)?;
        let Some(candidates) = scratch.get_mut(..kept).filter(|c| !c.is_empty()) else {
            return id(best);
        };
        let draw = self.random.next_unit();
        Ok(choose(&self.params, candidates, draw))
    }

    fn penalise(&self, logits: &mut [f32], recent: &[u32]) {
        let penalty = self.params.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let recent = recent
            .get(recent.len().saturating_sub(self.params.repetition_window)..)
            .unwrap_or(recent);
        for (index, &token) in recent.iter().enumerate() {
            // A token that comes again later in the window is counted there.
            if recent.iter().skip(index + 1).any(|&later| later == token) {
                continue;
            }
            if let Some(logit) = usize::try_from(token)
                .ok()
                .and_then(|at| logits.get_mut(at))
            {
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }
}

/// Which of the generator's sequences the sampler draws from.
const STREAM: u64 = 54;

/// More likely first; equals by the smaller token.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

fn by_id(a: &Candidate, b: &Candidate) -> Ordering {
    a.id.cmp(&b.id)
}

/// Fills `scratch` with the most likely tokens (all if they fit) and returns how many; leaves NaN and -∞ out.
fn collect(logits: &[f32], scratch: &mut [Candidate]) -> Result<usize, Error> {
    let mut kept = 0;
    // Once `scratch` is full it is a heap with the least likely candidate on top.
    for (index, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::NEG_INFINITY {
            continue;
        }
        let candidate = Candidate {
            id: u32::try_from(index).map_err(|_| Error::Overflow)?,
            weight: logit,
        };
        if let Some(slot) = scratch.get_mut(kept) {
            *slot = candidate;
            kept += 1;
            if kept == scratch.len() {
                for top in (0..kept / 2).rev() {
                    sift_down(scratch, top, by_weight);
                }
            }
        } else if let Some(least) = scratch
            .first_mut()
            .filter(|least| by_weight(&candidate, least).is_lt())
        {
            *least = candidate;
            sift_down(scratch, 0, by_weight);
        }
    }
    Ok(kept)
}

/// Restores the heap below `at`: nothing comes after what is above it.
fn sift_down(heap: &mut [Candidate], mut at: usize, order: fn(&Candidate, &Candidate) -> Ordering) {
    loop {
        let mut last = at;
        for child in [2 * at + 1, 2 * at + 2] {
            if let (Some(a), Some(b)) = (heap.get(child), heap.get(last))
                && order(a, b).is_gt()
            {
                last = child;
            }
        }
        if last == at {
            return;
        }
        swap(heap, at, last);
        at = last;
    }
}

/// Swaps two different items that are there: the slice's own method brings code for when they are not.
fn swap(items: &mut [Candidate], a: usize, b: usize) {
    if let Ok([a, b]) = items.get_disjoint_mut([a, b]) {
        core::mem::swap(a, b);
    }
}

/// Sorts by a total order. Without the standard library by a heap: a tenth of the code, which counts in flash.
fn sort(items: &mut [Candidate], order: fn(&Candidate, &Candidate) -> Ordering) {
    if cfg!(feature = "std") {
        return items.sort_unstable_by(order);
    }
    for top in (0..items.len() / 2).rev() {
        sift_down(items, top, order);
    }
    for end in (1..items.len()).rev() {
        swap(items, 0, end);
        sift_down(items.get_mut(..end).unwrap_or_default(), 0, order);
    }
}

/// Temperature, top-p, min-p and the draw over a non-empty list. `draw` is in `0..1`.
fn choose(params: &SamplingParams, candidates: &mut [Candidate], draw: f32) -> u32 {
    let ordered = params.top_p < 1.0;
    // A fixed order, whatever the heap left.
    let order = if ordered { by_weight } else { by_id };
    sort(candidates, order);
    let largest =
        candidates.iter().fold(
            f32::NEG_INFINITY,
            |m, c| if c.weight > m { c.weight } else { m },
        );
    let mut total = 0f32;
    for candidate in candidates.iter_mut() {
        let difference = if candidate.weight == largest {
            0.0
        } else {
            candidate.weight - largest
        };
        candidate.weight = seldom_exp(difference / params.temperature);
        total += candidate.weight;
    }
    let mut kept = candidates.len();
    if ordered {
        let mut sum = 0f32;
        let reached = candidates.iter().position(|c| {
            sum += c.weight;
            sum >= params.top_p * total
        });
        kept = reached.map_or(kept, |last| last + 1);
    }
    let candidates = candidates.get(..kept).unwrap_or(&[]);
    // The most likely has weight 1.
    let allowed = |c: &&Candidate| c.weight >= params.min_p.min(1.0);
    let total: f32 = candidates.iter().filter(allowed).map(|c| c.weight).sum();
    let mut left = draw * total;
    let mut last = 0;
    for candidate in candidates.iter().filter(allowed) {
        last = candidate.id;
        left -= candidate.weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests;
