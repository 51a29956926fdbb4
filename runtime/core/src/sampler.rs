//! Choosing the next token from logits, the same on every machine for one seed.
//!
//! The steps, in this order: repetition penalty (N. S. Keskar and others, «CTRL», 2019, arXiv 1909.05858);
//! temperature; top-k (A. Fan and others, 2018, arXiv 1805.04833); top-p (A. Holtzman and others, 2019,
//! arXiv 1904.09751); min-p (M. Nguyen and others, 2024, arXiv 2407.01082); a draw.

use crate::argmax::argmax;
use crate::math::exp;
use crate::{Error, Isa, Operand};
use core::cmp::Ordering;

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
            random: Pcg32::new(params.seed),
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

/// More likely first; equals by the smaller token.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
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
                    sift_down(scratch, top);
                }
            }
        } else if let Some(least) = scratch
            .first_mut()
            .filter(|least| by_weight(&candidate, least).is_lt())
        {
            *least = candidate;
            sift_down(scratch, 0);
        }
    }
    Ok(kept)
}

fn sift_down(heap: &mut [Candidate], mut at: usize) {
    loop {
        let mut least = at;
        for child in [2 * at + 1, 2 * at + 2] {
            if let (Some(a), Some(b)) = (heap.get(child), heap.get(least))
                && by_weight(a, b).is_gt()
            {
                least = child;
            }
        }
        if least == at {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}

/// Temperature, top-p, min-p and the draw over a non-empty list. `draw` is in `0..1`.
fn choose(params: &SamplingParams, candidates: &mut [Candidate], draw: f32) -> u32 {
    let ordered = params.top_p < 1.0;
    if ordered {
        candidates.sort_unstable_by(by_weight);
    } else {
        // A fixed order, whatever the heap left.
        candidates.sort_unstable_by_key(|c| c.id);
    }
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
        candidate.weight = exp(difference / params.temperature);
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

/// PCG-XSH-RR 64/32: M. E. O'Neill, «PCG: A Family of Simple Fast Space-Efficient Statistically Good
/// Algorithms for Random Number Generation», 2014, HMC-CS-2014-0905.
#[derive(Clone, Debug)]
struct Pcg32 {
    state: u64,
}

impl Pcg32 {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
    const INCREMENT: u64 = 1_442_695_040_888_963_407;

    fn new(seed: u64) -> Pcg32 {
        let mut random = Pcg32 {
            state: seed.wrapping_add(Self::INCREMENT),
        };
        random.next();
        random
    }

    fn next(&mut self) -> u32 {
        let old = self.state;
        self.state = old
            .wrapping_mul(Self::MULTIPLIER)
            .wrapping_add(Self::INCREMENT);
        let mixed = (((old >> 18) ^ old) >> 27) as u32;
        mixed.rotate_right((old >> 59) as u32)
    }

    /// Uniform in `0..1`, a multiple of 2⁻²⁴.
    fn next_unit(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 16_777_216.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn counts(params: SamplingParams, logits: &[f32], scratch: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(params).unwrap();
        let mut counts = std::vec![0; logits.len()];
        let mut scratch = std::vec![Candidate::default(); scratch];
        for _ in 0..4000 {
            let mut logits = logits.to_vec();
            counts[sampler
                .sample(Isa::SCALAR, &mut logits, &[], &mut scratch)
                .unwrap() as usize] += 1;
        }
        counts
    }

    const LOGITS: [f32; 6] = [0.0, 2.0, f32::NAN, 1.0, f32::NEG_INFINITY, -1.0];

    #[test]
    fn draws_follow_the_probabilities() {
        let params = SamplingParams {
            temperature: 0.5,
            seed: 7,
            ..SamplingParams::GREEDY
        };
        let got = counts(params, &LOGITS, 6);
        let weights: Vec<f64> = LOGITS
            .iter()
            .map(|&x| {
                if x.is_nan() {
                    0.0
                } else {
                    (f64::from(x) / 0.5).exp()
                }
            })
            .collect();
        let total: f64 = weights.iter().sum();
        for (count, weight) in got.iter().zip(weights) {
            assert!(
                (f64::from(*count) / 4000.0 - weight / total).abs() < 0.02,
                "{got:?}"
            );
        }
        assert_eq!(counts(params, &LOGITS, 6), got);
        assert_ne!(
            counts(SamplingParams { seed: 8, ..params }, &LOGITS, 6),
            got
        );
    }

    #[test]
    fn cuts_keep_the_most_likely() {
        let base = SamplingParams {
            temperature: 1.0,
            ..SamplingParams::GREEDY
        };
        let kept = |params, scratch| {
            counts(params, &LOGITS, scratch)
                .iter()
                .map(|&c| c > 0)
                .collect::<Vec<_>>()
        };
        let two = [false, true, false, true, false, false];
        assert_eq!(kept(SamplingParams { top_k: 2, ..base }, 6), two);
        assert_eq!(kept(base, 2), two);
        assert_eq!(kept(SamplingParams { top_p: 0.8, ..base }, 6), two);
        assert_eq!(kept(SamplingParams { min_p: 0.3, ..base }, 6), two);
        assert_eq!(
            kept(SamplingParams { top_p: 0.0, ..base }, 6),
            [false, true, false, false, false, false]
        );
        assert_eq!(
            kept(SamplingParams { min_p: 9.0, ..base }, 6),
            [false, true, false, false, false, false]
        );
    }

    #[test]
    fn penalty_counts_each_recent_token_once() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            repetition_window: 3,
            ..SamplingParams::GREEDY
        };
        let mut sampler = Sampler::new(params).unwrap();
        let mut logits = [4.0, 3.0, -1.0, 1.0];
        let chosen = sampler.sample(Isa::SCALAR, &mut logits, &[3, 0, 0, 2, 99, 0][..], &mut []);
        assert_eq!((chosen, logits), (Ok(1), [2.0, 3.0, -2.0, 1.0]));
    }

    #[test]
    fn refuses_nonsense() {
        for params in [
            SamplingParams {
                temperature: f32::NAN,
                ..SamplingParams::GREEDY
            },
            SamplingParams {
                top_p: -0.1,
                ..SamplingParams::GREEDY
            },
            SamplingParams {
                repetition_penalty: 0.0,
                ..SamplingParams::GREEDY
            },
        ] {
            assert_eq!(Sampler::new(params).err(), Some(Error::Sampling));
        }
        let mut warm = Sampler::new(SamplingParams {
            temperature: 1.0,
            ..SamplingParams::GREEDY
        })
        .unwrap();
        assert!(warm.sample(Isa::SCALAR, &mut [], &[], &mut []).is_err());
        assert!(warm.sample(Isa::SCALAR, &mut [1.0], &[], &mut []).is_err());
        let mut scratch = [Candidate::default(); 4];
        assert_eq!(
            warm.sample(Isa::SCALAR, &mut [f32::NAN; 4], &[], &mut scratch),
            Ok(0)
        );
        assert_eq!(
            warm.sample(Isa::SCALAR, &mut [1.0, f32::INFINITY], &[], &mut scratch),
            Ok(1)
        );
    }

    #[test]
    fn random_numbers_are_pcg32() {
        // The reference program's output for state 42, stream 54 differs only in its increment; this pins ours.
        let mut random = Pcg32 {
            state: 0x1857_06b8_2c2e_03f8,
        };
        assert_eq!(
            [random.next(), random.next()],
            [random_reference(0), random_reference(1)]
        );
    }

    fn random_reference(step: u32) -> u32 {
        let mut state = 0x1857_06b8_2c2e_03f8u128;
        for _ in 0..step {
            state =
                (state * u128::from(Pcg32::MULTIPLIER) + u128::from(Pcg32::INCREMENT)) % (1 << 64);
        }
        let mixed = ((((state >> 18) ^ state) >> 27) % (1 << 32)) as u32;
        mixed.rotate_right((state >> 59) as u32)
    }
}
