//! Attention against a plain f64 softmax, and instruction sets against each other.

use super::*;
use crate::f16;
use std::vec::Vec;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0) * 1.5)
        .collect()
}

fn expected(
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

#[test]
fn eight_bits_are_as_exact_as_their_codes() {
    // Two blocks and a bit, so that a row has three scales, and a row of one short block.
    for (group, head_dim, value_dim) in [(3, 64, 64), (5, 70, 20), (1, 32, 33), (2, 7, 5)] {
        let (tokens, positions) = (2, 75);
        let shape = AttentionShape {
            tokens,
            group,
            head_dim,
            value_dim,
            query_stride: group * head_dim + 3,
            scale: 0.3,
            softcap: None,
            visible: Visible::Causal {
                first: positions - tokens,
                window: Some(70),
            },
        };
        let q = numbers(tokens * shape.query_stride, 1);
        let (k, v) = (
            numbers(positions * head_dim, 2),
            numbers(positions * value_dim, 3),
        );
        let narrowed = |isa, x: &[f32], columns: usize| {
            let scales = q8_scales(columns);
            let mut codes = std::vec![0; x.len()];
            let mut all_scales = std::vec![0.0; x.len() / columns * scales];
            let to = codes.chunks_mut(columns).zip(all_scales.chunks_mut(scales));
            for (x, (codes, scales)) in x.chunks(columns).zip(to) {
                narrow_to_q8(isa, x, codes, scales).unwrap();
            }
            (codes, all_scales)
        };
        let widened = |(codes, scales): &(Vec<i8>, Vec<f32>), columns: usize| -> Vec<f32> {
            let row = |(i, &code): (usize, &i8)| {
                f32::from(code) * scales[i / columns * q8_scales(columns) + i % columns / 32]
            };
            codes.iter().enumerate().map(row).collect()
        };
        let run = |isa| {
            let (k, v) = (narrowed(isa, &k, head_dim), narrowed(isa, &v, value_dim));
            let mut out = std::vec![f32::NAN; tokens * group * value_dim];
            let view = MatrixMut::new(&mut out, tokens, group * value_dim).unwrap();
            let [k, v] = [&k, &v].map(|(codes, scales)| Q8Rows { codes, scales });
            attend_q8(isa, &shape, &q, k, v, view).unwrap();
            out
        };
        let scalar = run(Isa::SCALAR);
        let k8 = widened(&narrowed(Isa::SCALAR, &k, head_dim), head_dim);
        let v8 = widened(&narrowed(Isa::SCALAR, &v, value_dim), value_dim);
        // Half a step of 1.5 / 127 and the rounding of the scale.
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.006);
        assert!(near(&k, &k8) && near(&v, &v8));
        for token in 0..tokens {
            for head in 0..group {
                let rounded = expected(&shape, &q, &k8, &v8, token, head);
                let exact = expected(&shape, &q, &k, &v, token, head);
                for i in 0..value_dim {
                    let got = f64::from(scalar[(token * group + head) * value_dim + i]);
                    assert!((got - rounded[i]).abs() < 1e-5, "{got} {}", rounded[i]);
                    assert!((got - exact[i]).abs() < 0.02, "{got} {}", exact[i]);
                }
            }
        }
        for isa in Isa::available() {
            assert_eq!(run(isa), scalar, "{}", isa.name());
        }
    }
    let (mut codes, mut scales) = ([0; 33], [0.0; 2]);
    let mut x = [0.0; 33];
    x[3] = f32::INFINITY;
    narrow_to_q8(Isa::SCALAR, &x, &mut codes, &mut scales).unwrap();
    assert!(scales[0].is_nan() && scales[1] == 0.0);
    assert!(narrow_to_q8(Isa::SCALAR, &x, &mut codes, &mut scales[1..]).is_err());
}
