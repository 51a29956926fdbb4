//! Attention against a plain f64 softmax, and instruction sets against each other.

use super::*;
use crate::f16;
use std::vec::Vec;

pub(super) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0) * 1.5)
        .collect()
}

pub(super) fn expected(
    shape: &AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    token: usize,
    head: usize,
) -> Vec<f64> {
    let positions = k.len() / shape.head_dim;
    let visible = |p: usize| match shape.visible {
        Visible::All => true,
        Visible::Causal { first, window } => {
            p <= first + token && window.is_none_or(|w| p + w > first + token)
        }
    };
    let scores: Vec<f64> = (0..positions)
        .map(|p| {
            let start = token * shape.query_stride + head * shape.head_dim;
            let dot: f64 = (0..shape.head_dim)
                .map(|i| f64::from(q[start + i]) * f64::from(k[p * shape.head_dim + i]))
                .sum();
            let score = dot * f64::from(shape.scale);
            let score = shape.softcap.map_or(score, |cap| {
                f64::from(cap) * (score / f64::from(cap)).tanh()
            });
            if visible(p) { score.exp() } else { 0.0 }
        })
        .collect();
    let total: f64 = scores.iter().sum();
    (0..shape.value_dim)
        .map(|i| {
            (0..positions)
                .map(|p| scores[p] / total * f64::from(v[p * shape.value_dim + i]))
                .sum()
        })
        .collect()
}

#[test]
fn matches_softmax_and_every_isa_agrees() {
    let cases = [
        (
            1,
            3,
            64,
            64,
            70,
            None,
            Visible::Causal {
                first: 69,
                window: None,
            },
        ),
        (
            5,
            1,
            32,
            32,
            40,
            None,
            Visible::Causal {
                first: 35,
                window: Some(7),
            },
        ),
        (
            2,
            6,
            20,
            36,
            33,
            Some(3.0),
            Visible::Causal {
                first: 31,
                window: None,
            },
        ),
        (3, 2, 7, 5, 12, None, Visible::All),
        (
            2,
            4,
            16,
            16,
            2,
            None,
            Visible::Causal {
                first: 0,
                window: None,
            },
        ),
    ];
    for (tokens, group, head_dim, value_dim, positions, softcap, visible) in cases {
        let query_stride = group * head_dim + 3;
        let shape = AttentionShape {
            tokens,
            group,
            head_dim,
            value_dim,
            query_stride,
            scale: 0.3,
            softcap,
            visible,
        };
        let q = numbers(tokens * query_stride, 1);
        let k16: Vec<f16> = numbers(positions * head_dim, 2)
            .into_iter()
            .map(f16::from_f32)
            .collect();
        let v16: Vec<f16> = numbers(positions * value_dim, 3)
            .into_iter()
            .map(f16::from_f32)
            .collect();
        let k: Vec<f32> = k16.iter().map(|x| x.to_f32()).collect();
        let v: Vec<f32> = v16.iter().map(|x| x.to_f32()).collect();
        let run = |isa, keys, values| {
            let mut out = std::vec![f32::NAN; tokens * group * value_dim];
            let view = MatrixMut::new(&mut out, tokens, group * value_dim).unwrap();
            attend(isa, &shape, &q, keys, values, view).unwrap();
            out
        };
        let scalar = run(Isa::SCALAR, Floats::F32(&k), Floats::F32(&v));
        for token in 0..tokens {
            for head in 0..group {
                let want = expected(&shape, &q, &k, &v, token, head);
                for (i, want) in want.into_iter().enumerate() {
                    let got = scalar[(token * group + head) * value_dim + i];
                    assert!((f64::from(got) - want).abs() < 1e-5, "{got} {want}");
                }
            }
        }
        for isa in Isa::available() {
            assert_eq!(
                run(isa, Floats::F32(&k), Floats::F32(&v)),
                scalar,
                "{}",
                isa.name()
            );
            assert_eq!(
                run(isa, Floats::F16(&k16), Floats::F16(&v16)),
                scalar,
                "{}",
                isa.name()
            );
        }
    }
}

#[test]
fn refuses_wrong_shapes() {
    let visible = Visible::All;
    let shape = AttentionShape {
        tokens: 1,
        group: 2,
        head_dim: 4,
        value_dim: 4,
        query_stride: 8,
        scale: 1.0,
        softcap: None,
        visible,
    };
    let (q, k, mut out) = ([0.0; 8], [0.0; 12], [0.0; 8]);
    let mut run = |shape: &AttentionShape, q: &[f32], k: &[f32], v: &[f32]| {
        let view = MatrixMut::new(&mut out, 1, 8).unwrap();
        attend(Isa::SCALAR, shape, q, Floats::F32(k), Floats::F32(v), view)
    };
    assert_eq!(run(&shape, &q, &k, &k), Ok(()));
    assert_eq!(
        run(&shape, &q[1..], &k, &k),
        Err(Error::Length(Operand::Queries))
    );
    assert_eq!(
        run(&shape, &q, &k[1..], &k),
        Err(Error::Length(Operand::Keys))
    );
    assert_eq!(
        run(&shape, &q, &k, &k[4..]),
        Err(Error::Length(Operand::CachedValues))
    );
    assert_eq!(
        run(
            &AttentionShape {
                head_dim: 0,
                ..shape
            },
            &q,
            &k,
            &k
        ),
        Err(Error::Shape)
    );
    assert_eq!(
        run(
            &AttentionShape {
                group: usize::MAX,
                ..shape
            },
            &q,
            &k,
            &k
        ),
        Err(Error::Overflow)
    );
}

#[test]
fn narrowing_rounds_alike_everywhere() {
    let x: Vec<f32> = (0..2000)
        .map(|i| f32::from_bits(0x3300_0000 + i * 0x8_1234))
        .collect();
    let want: Vec<f16> = x.iter().map(|&v| f16::from_f32(v)).collect();
    for isa in Isa::available() {
        let mut out = std::vec![f16::ZERO; x.len()];
        narrow_to_f16(isa, &x, &mut out).unwrap();
        assert_eq!(out, want, "{}", isa.name());
    }
}
