//! The scalar twin against a plain f64 softmax, and every kernel against the twin, bit for bit.

use super::*;
use crate::attention::Visible;
use crate::attention::tests::{expected, numbers};
use proptest::prelude::*;
use std::vec::Vec;

/// Keys or values of some positions, and of some more that nobody sees and that are no numbers.
struct Cache {
    columns: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
}

impl Cache {
    fn new(x: &[f32], columns: usize, store: Store) -> Cache {
        let groups = (x.len() / columns).div_ceil(Q8_POSITIONS);
        let mut cache = Cache {
            columns,
            codes: std::vec![-128; groups * Q8_POSITIONS * q8_columns(columns)],
            scales: std::vec![f32::NAN; groups * Q8_POSITIONS * q8_scales(columns)],
        };
        for (position, row) in x.chunks(columns).enumerate() {
            let group = position / Q8_POSITIONS;
            let codes = Q8_POSITIONS * q8_columns(columns);
            let scales = Q8_POSITIONS * q8_scales(columns);
            store(
                Isa::detect(),
                row,
                position % Q8_POSITIONS,
                &mut cache.codes[group * codes..][..codes],
                &mut cache.scales[group * scales..][..scales],
            )
            .unwrap();
        }
        cache
    }

    fn groups(&self) -> Q8Groups<'_> {
        Q8Groups {
            codes: &self.codes,
            scales: &self.scales,
        }
    }

    /// The numbers that the codes stand for; `at` gives the place of a code in a group.
    fn widened(&self, positions: usize, at: impl Fn(usize, usize) -> usize) -> Vec<f32> {
        let number = |position: usize, column: usize| {
            let (group, place) = (position / Q8_POSITIONS, position % Q8_POSITIONS);
            let codes = group * Q8_POSITIONS * q8_columns(self.columns);
            let block = group * q8_scales(self.columns) + column / 32;
            f32::from(self.codes[codes + at(place, column)])
                * self.scales[block * Q8_POSITIONS + place]
        };
        let rows =
            (0..positions).map(|position| (0..self.columns).map(move |column| (position, column)));
        rows.flatten()
            .map(|(position, column)| number(position, column))
            .collect()
    }
}

type Store = fn(Isa, &[f32], usize, &mut [i8], &mut [f32]) -> Result<(), Error>;

fn run(
    isa: Isa,
    shape: &AttentionShape,
    q: &[f32],
    keys: &Cache,
    values: &Cache,
    positions: usize,
) -> Vec<f32> {
    let mut out = std::vec![f32::NAN; shape.tokens * shape.group * shape.value_dim];
    let view = MatrixMut::new(&mut out, shape.tokens, shape.group * shape.value_dim).unwrap();
    attend_q8(
        isa,
        shape,
        q,
        keys.groups(),
        values.groups(),
        positions,
        view,
    )
    .unwrap();
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn is_near_softmax_and_the_same_on_every_isa(
        (tokens, group, head_dim, value_dim) in (1..4usize, 1..10usize, 1..140usize, 1..100usize),
        positions in 1..150usize,
        window in proptest::option::of(1..60usize),
        softcap in proptest::option::of(1.0..4.0f32),
        all in proptest::bool::weighted(0.2),
    ) {
        let tokens = tokens.min(positions);
        let visible = if all { Visible::All } else { Visible::Causal { first: positions - tokens, window } };
        let shape = AttentionShape {
            tokens,
            group,
            head_dim,
            value_dim,
            query_stride: group * head_dim + 3,
            scale: 1.5 / (head_dim as f32).sqrt(),
            softcap,
            visible,
        };
        let q = numbers(tokens * shape.query_stride, 1);
        let (k, v) = (numbers(positions * head_dim, 2), numbers(positions * value_dim, 3));
        let keys = Cache::new(&k, head_dim, store_key);
        let values = Cache::new(&v, value_dim, store_value);

        let k8 = keys.widened(positions, |place, column| (column / 4 * 16 + place) * 4 + column % 4);
        let v8 = values.widened(positions, |place, column| {
            (place / 4 * q8_columns(value_dim) + column) * 4 + place % 4
        });
        // Half a step of 1.5 / 127 and the rounding of the scale.
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.006);
        prop_assert!(near(&k, &k8) && near(&v, &v8));

        let scalar = run(Isa::SCALAR, &shape, &q, &keys, &values, positions);
        for token in 0..tokens {
            for head in 0..group {
                // What the queries' and the weights' rounding adds is of the size of the keys' and values' own.
                for (i, want) in expected(&shape, &q, &k8, &v8, token, head).into_iter().enumerate() {
                    let got = f64::from(scalar[(token * group + head) * value_dim + i]);
                    prop_assert!((got - want).abs() < 0.03, "{got} {want}");
                }
            }
        }
        for isa in Isa::available() {
            let found = run(isa, &shape, &q, &keys, &values, positions);
            prop_assert_eq!(bits(&found), bits(&scalar), "{}", isa.name());
        }
    }
}

/// A token gets the same bits alone and among others, whatever the cache holds after it.
#[test]
fn later_positions_have_no_influence() {
    let (head_dim, positions) = (64, 70);
    let q = numbers(positions * 3 * head_dim, 1);
    let (k, v) = (
        numbers(positions * head_dim, 2),
        numbers(positions * head_dim, 3),
    );
    let shape = |first: usize, tokens: usize| AttentionShape {
        tokens,
        group: 3,
        head_dim,
        value_dim: head_dim,
        query_stride: 3 * head_dim,
        scale: 0.3,
        softcap: None,
        visible: Visible::Causal {
            first,
            window: Some(37),
        },
    };
    let whole = run(
        Isa::detect(),
        &shape(0, positions),
        &q,
        &Cache::new(&k, head_dim, store_key),
        &Cache::new(&v, head_dim, store_value),
        positions,
    );
    for (token, want) in whole.chunks(3 * head_dim).enumerate() {
        let seen = (token + 1) * head_dim;
        let alone = run(
            Isa::detect(),
            &shape(token, 1),
            &q[3 * token * head_dim..3 * seen],
            &Cache::new(&k[..seen], head_dim, store_key),
            &Cache::new(&v[..seen], head_dim, store_value),
            token + 1,
        );
        assert_eq!(bits(&alone), bits(want), "{token}");
    }
}

#[test]
fn what_is_no_number_is_not_quietly_wrong() {
    let (dim, positions) = (64, 40);
    let shape = AttentionShape {
        tokens: 1,
        group: 2,
        head_dim: dim,
        value_dim: dim,
        query_stride: 2 * dim,
        scale: 1.0,
        softcap: None,
        visible: Visible::All,
    };
    let q = numbers(2 * dim, 1);
    let (k, mut v) = (numbers(positions * dim, 2), numbers(positions * dim, 3));
    let mut bad = k.clone();
    bad[7 * dim + 3] = f32::INFINITY;
    v[33 * dim + 40] = f32::NAN;
    let caches = |k: &[f32]| {
        (
            Cache::new(k, dim, store_key),
            Cache::new(&v, dim, store_value),
        )
    };
    for isa in Isa::available() {
        let (keys, values) = caches(&bad);
        let out = run(isa, &shape, &q, &keys, &values, positions);
        assert!(out.iter().all(|y| y.is_nan()), "{}", isa.name());
        // A value's block of columns keeps it to itself.
        let (keys, values) = caches(&k);
        let out = run(isa, &shape, &q, &keys, &values, positions);
        for row in out.chunks(dim) {
            assert!(row[..32].iter().all(|y| y.is_finite()), "{}", isa.name());
            assert!(row[32..].iter().all(|y| y.is_nan()), "{}", isa.name());
        }
    }
}

#[test]
fn each_instruction_set_has_its_kernel() {
    for isa in Isa::available() {
        let expected = match isa.kind() {
            crate::IsaKind::Neon => "q8-neon",
            crate::IsaKind::NeonDotprod | crate::IsaKind::NeonI8mm => "q8-neon-dotprod",
            crate::IsaKind::Avx2 => "q8-avx2",
            crate::IsaKind::Avx512Vnni => "q8-avx512-vnni",
            // The others are without attention of their own.
            _ => "q8-scalar",
        };
        assert_eq!(q8_kernel_name(isa), expected);
    }
}

#[test]
fn long_heads_are_taken_few_at_a_time() {
    let positions = 20;
    for head_dim in [256, 300, 1024] {
        let shape = AttentionShape {
            tokens: 1,
            group: 5,
            head_dim,
            value_dim: 32,
            query_stride: 5 * head_dim,
            scale: 0.05,
            softcap: None,
            visible: Visible::All,
        };
        let q = numbers(5 * head_dim, 1);
        let keys = Cache::new(&numbers(positions * head_dim, 2), head_dim, store_key);
        let values = Cache::new(&numbers(positions * 32, 3), 32, store_value);
        let scalar = run(Isa::SCALAR, &shape, &q, &keys, &values, positions);
        for isa in Isa::available() {
            let found = run(isa, &shape, &q, &keys, &values, positions);
            assert_eq!(bits(&found), bits(&scalar), "{} {head_dim}", isa.name());
            for head in 0..5 {
                let one = AttentionShape { group: 1, ..shape };
                let q = &q[head * head_dim..][..head_dim];
                let alone = run(isa, &one, q, &keys, &values, positions);
                assert_eq!(bits(&alone), bits(&scalar[head * 32..][..32]));
            }
        }
    }
}

#[test]
fn refuses_wrong_shapes() {
    let (codes, scales, queries) = ([0i8; 16 * 32], [0f32; 16], [0f32; 40]);
    let shape = AttentionShape {
        tokens: 1,
        group: 2,
        head_dim: 20,
        value_dim: 20,
        query_stride: 40,
        scale: 1.0,
        softcap: None,
        visible: Visible::All,
    };
    let cache = Q8Groups {
        codes: &codes,
        scales: &scales,
    };
    let mut out = [0f32; 40];
    let mut run = |shape: &AttentionShape, queries: &[f32], keys, values, positions| {
        let view = MatrixMut::new(&mut out, 1, 40).unwrap();
        attend_q8(Isa::SCALAR, shape, queries, keys, values, positions, view)
    };
    assert_eq!(run(&shape, &queries, cache, cache, 16), Ok(()));
    assert_eq!(
        run(&shape, &queries, cache, cache, 17),
        Err(Error::Length(Operand::Keys))
    );
    let short = Q8Groups {
        scales: &scales[1..],
        ..cache
    };
    assert_eq!(
        run(&shape, &queries, short, cache, 1),
        Err(Error::Length(Operand::Keys))
    );
    assert_eq!(
        run(&shape, &queries, cache, short, 1),
        Err(Error::Length(Operand::CachedValues))
    );
    assert_eq!(
        run(&shape, &queries[1..], cache, cache, 1),
        Err(Error::Length(Operand::Queries))
    );
    let long = AttentionShape {
        group: 1,
        head_dim: Q8_MAX_COLUMNS + 1,
        value_dim: 40,
        ..shape
    };
    assert_eq!(run(&long, &[0.0; 1025], cache, cache, 1), Err(Error::Shape));
    let empty = AttentionShape {
        head_dim: 0,
        ..shape
    };
    assert!(run(&empty, &queries, cache, cache, 1).is_err());
    let (mut codes, mut scales) = (codes, scales);
    assert_eq!(
        store_key(Isa::SCALAR, &[0.0; 20], 16, &mut codes, &mut scales),
        Err(Error::Shape)
    );
    assert_eq!(
        store_value(Isa::SCALAR, &[0.0; 40], 0, &mut codes, &mut scales),
        Err(Error::Length(Operand::Output))
    );
}
