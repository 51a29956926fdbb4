//! Changes of odd shapes against plain sums in f64, on every instruction set.

use std::num::NonZeroUsize;

use super::*;

/// Numbers between -1 and 1, times `size`.
fn numbers(count: usize, seed: u32, size: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() * size).collect()
}

/// A layer of two matrices, `[40, cols]` and `[17, cols]`, changed in rows of both.
fn changes(cols: usize, ranks: [usize; 2], size: f32) -> Vec<Change> {
    let part = |matrix, rows: Range<usize>, rank, seed| ChangePart {
        matrix,
        b: numbers(rows.len() * rank, seed, size),
        rows,
    };
    let [first, second] = ranks;
    vec![
        Change {
            a: numbers(first * cols, 1, size),
            rank: first,
            scale: 0.5,
            parts: vec![part(0, 16..40, first, 2), part(1, 0..17, first, 3)],
        },
        Change {
            a: numbers(second * cols, 4, size),
            rank: second,
            scale: -2.0,
            parts: vec![part(0, 0..16, second, 5)],
        },
    ]
}

/// What `start` and all changes come to, of rows of one matrix.
fn expected(changes: &[Change], x: &[f32], cols: usize, matrix: usize, start: f32) -> Vec<f64> {
    let rows = [40, 17][matrix];
    let dot =
        |a: &[f32], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum() };
    let mut out = Vec::new();
    for x in x.chunks(cols) {
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let mut y = vec![f64::from(start); rows];
        for change in changes {
            let hidden: Vec<f64> = change.a.chunks(cols).map(|a| dot(a, &x)).collect();
            for part in change.parts.iter().filter(|part| part.matrix == matrix) {
                for (row, b) in part.rows.clone().zip(part.b.chunks(change.rank)) {
                    y[row] += f64::from(change.scale) * dot(b, &hidden);
                }
            }
        }
        out.extend(y);
    }
    out
}

fn added(layer: &LowRank, x: &[f32], tokens: usize, start: f32, threads: usize) -> [Vec<f32>; 2] {
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    let mut scratch = Vec::new();
    let side = layer.begin(x, tokens, &mut scratch, &pool).unwrap();
    [40, 17].map(|rows| {
        let matrix = usize::from(rows == 17);
        let mut y = vec![start; tokens * rows];
        let out = MatrixMut::new(&mut y, tokens, rows).unwrap();
        pool.for_columns(out, 16, &|range, part| side.add(matrix, range, part))
            .unwrap();
        y
    })
}

#[test]
fn changes_are_added_where_they_belong_with_the_same_bits_everywhere() {
    for (cols, ranks, tokens) in [
        (64, [8, 16], 1),
        (33, [1, 3], 5),
        (576, [16, 4], 2),
        (7, [40, 9], 19),
    ] {
        let x = numbers(tokens * cols, 9, 1.0);
        for (size, bound) in [(1.0, 1e-4), (1e-9, 1e-4), (1e9, 1e-4)] {
            let build = |isa| LowRank::new(changes(cols, ranks, size), cols, isa).unwrap();
            let start = size * size;
            let scalar = added(&build(Isa::SCALAR), &x, tokens, start, 1);
            for matrix in [0, 1] {
                let expected = expected(&changes(cols, ranks, size), &x, cols, matrix, start);
                let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
                for (found, expected) in scalar[matrix].iter().zip(&expected) {
                    let apart = (f64::from(*found) - expected).abs();
                    assert!(apart <= bound * largest, "{found} {expected} {cols} {size}");
                }
            }
            for isa in Isa::available() {
                for threads in [1, 3] {
                    let found = added(&build(isa), &x, tokens, start, threads);
                    assert_eq!(found, scalar, "{} {threads} threads", isa.name());
                }
            }
        }
    }
}
