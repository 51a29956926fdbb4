//! Samples laid out in the rows of a batch.

use super::Sample;
use crate::train::model::Batch;

/// Lays samples out in rows: each element of `rows` lists the samples of one row, which become its segments 1, 2, …; padding is
/// segment 0. Rows are as long as the longest one, rounded up to a multiple of `multiple`, so that a device sees few different
/// shapes.
pub fn lay_out(rows: &[Vec<&Sample>], multiple: usize) -> Batch {
    let length = |row: &Vec<&Sample>| row.iter().map(|sample| sample.tokens.len()).sum();
    let longest: usize = rows.iter().map(length).max().unwrap_or(0);
    let tokens = longest.max(1).next_multiple_of(multiple.max(1));
    let cells = rows.len() * tokens;
    let mut batch = Batch {
        rows: rows.len(),
        tokens,
        ids: vec![0; cells],
        positions: vec![0; cells],
        segments: vec![0; cells],
        targets: vec![0; cells],
        weights: vec![0.0; cells],
    };
    for (row, samples) in rows.iter().enumerate() {
        let mut start = row * tokens;
        for (segment, sample) in (1..).zip(samples) {
            place(&mut batch, start, segment, sample);
            start += sample.tokens.len();
        }
    }
    batch
}

/// How many tokens there are without the padding.
pub fn filled(batch: &Batch) -> usize {
    batch
        .segments
        .iter()
        .filter(|&&segment| segment > 0)
        .count()
}

fn place(batch: &mut Batch, start: usize, segment: u32, sample: &Sample) {
    let end = start + sample.tokens.len();
    batch.ids[start..end].copy_from_slice(&sample.tokens);
    batch.segments[start..end].fill(segment);
    for (position, cell) in (0..).zip(&mut batch.positions[start..end]) {
        *cell = position;
    }
    if let Some(class) = sample.class {
        batch.targets[start] = class;
        batch.weights[start] = 1.0;
    }
    // The last token of a sample has nothing to be followed by.
    let next = sample.tokens.iter().zip(&sample.learnt).skip(1);
    for (cell, (&token, &learnt)) in (start..).zip(next) {
        if learnt {
            batch.targets[cell] = token;
            batch.weights[cell] = 1.0;
        }
    }
}
