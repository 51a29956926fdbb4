//! The sampler against probabilities worked out in f64, and its refusals.

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
