//! The formula in f64, and every instruction set against the scalar twin.

use super::*;
use std::vec::Vec;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (((i + seed) * 7919 % 1013) as f32 - 500.0) * 2e-3)
        .collect()
}

fn run(isa: Isa, shape: &TiledShape, mask: Mask<'_>) -> Vec<f32> {
    let queries = numbers(shape.tokens * shape.query_stride, 1);
    let keys = numbers(shape.positions * shape.key_stride, 2);
    let values = numbers(shape.positions * shape.value_stride, 3);
    let mut out = std::vec![f32::NAN; shape.tokens * shape.value_dim];
    let view = MatrixMut::new(&mut out, shape.tokens, shape.value_dim).unwrap();
    let mut scratch = std::vec![f32::NAN; tiled_scratch(shape).unwrap()];
    attend_tiled(
        isa,
        shape,
        &queries,
        &keys,
        &values,
        mask,
        &mut scratch,
        view,
    )
    .unwrap();
    out
}

/// The formula in f64, with what the mask adds to each score.
fn expected(shape: &TiledShape, added: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let queries = numbers(shape.tokens * shape.query_stride, 1);
    let keys = numbers(shape.positions * shape.key_stride, 2);
    let values = numbers(shape.positions * shape.value_stride, 3);
    let mut out = Vec::new();
    for token in 0..shape.tokens {
        let query = &queries[token * shape.query_stride..][..shape.head_dim];
        let weights: Vec<f64> = (0..shape.positions)
            .map(|position| {
                let key = &keys[position * shape.key_stride..][..shape.head_dim];
                let products = query
                    .iter()
                    .zip(key)
                    .map(|(&q, &k)| f64::from(q) * f64::from(k));
                let dot = products.sum::<f64>() * f64::from(shape.scale);
                (dot + added(token, position)).exp()
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        out.extend((0..shape.value_dim).map(|column| {
            let column = values.iter().skip(column).step_by(shape.value_stride);
            let weighed = column.zip(&weights).map(|(&v, w)| f64::from(v) * w);
            weighed.sum::<f64>() / sum
        }));
    }
    out
}

#[test]
fn matches_the_formula_and_every_isa_agrees() {
    for (tokens, positions, head_dim, value_dim) in [
        (1, 1, 1, 1),
        (5, 5, 32, 32),
        (16, 33, 20, 12),
        (33, 128, 64, 64),
        (70, 9, 7, 19),
    ] {
        let shape = TiledShape {
            tokens,
            positions,
            head_dim,
            value_dim,
            query_stride: head_dim + 3,
            key_stride: head_dim,
            value_stride: value_dim + 5,
            scale: 0.7,
        };
        let keep: Vec<bool> = (0..tokens * positions)
            .map(|i| i % 3 != 0 || i == 0)
            .collect();
        let add = numbers(positions, 9);
        let hidden = |hide: bool| if hide { f64::NEG_INFINITY } else { 0.0 };
        let cases: [(Mask<'_>, Vec<f64>); 3] = [
            (Mask::None, expected(&shape, |_, _| 0.0)),
            (
                Mask::Keep {
                    rows: &keep,
                    stride: positions,
                },
                expected(&shape, |token, at| hidden(!keep[token * positions + at])),
            ),
            (
                Mask::Add {
                    rows: &add,
                    stride: 0,
                },
                expected(&shape, |_, at| f64::from(add[at])),
            ),
        ];
        for (mask, want) in cases {
            let scalar = run(Isa::SCALAR, &shape, mask);
            for (got, want) in scalar.iter().zip(&want).filter(|(_, want)| !want.is_nan()) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
            }
            for isa in Isa::available() {
                assert_eq!(run(isa, &shape, mask), scalar, "{}", isa.name());
            }
        }
    }
}

#[test]
fn hidden_rows_and_wrong_lengths() {
    let shape = TiledShape {
        tokens: 2,
        positions: 3,
        head_dim: 4,
        value_dim: 4,
        query_stride: 4,
        key_stride: 4,
        value_stride: 4,
        scale: 1.0,
    };
    let rows = [f32::NEG_INFINITY; 3];
    assert_eq!(
        run(
            Isa::detect(),
            &shape,
            Mask::Add {
                rows: &rows,
                stride: 0
            }
        ),
        [0.0; 8]
    );
    let evenly = run(
        Isa::detect(),
        &shape,
        Mask::Keep {
            rows: &[false; 3],
            stride: 0,
        },
    );
    let values = numbers(12, 3);
    assert!((evenly[0] - (values[0] + values[4] + values[8]) / 3.0).abs() < 1e-6);
    let (x, mut scratch, mut out) = ([0.0; 12], [0.0; 4096], [0.0; 8]);
    let mut attend = |queries, keys, values, rows: &[f32], stride| {
        let view = MatrixMut::new(&mut out, 2, 4).unwrap();
        let mask = Mask::Add { rows, stride };
        attend_tiled(
            Isa::SCALAR,
            &shape,
            queries,
            keys,
            values,
            mask,
            &mut scratch,
            view,
        )
    };
    let error = |operand| Err(Error::Length(operand));
    assert_eq!(attend(&x, &x, &x, &x[..6], 3), Ok(()));
    assert_eq!(attend(&x[..7], &x, &x, &x[..6], 3), error(Operand::Queries));
    assert_eq!(attend(&x, &x[..11], &x, &x[..6], 3), error(Operand::Keys));
    assert_eq!(
        attend(&x, &x, &x[..11], &x[..6], 3),
        error(Operand::CachedValues)
    );
    assert_eq!(attend(&x, &x, &x, &x[..5], 3), error(Operand::Parameters));
}
