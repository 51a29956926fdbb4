//! What a low-rank adapter adds to a linear layer: `y += B (A x)`, with few rows in A and few columns in B.
//!
//! E. Hu and others, «LoRA: Low-Rank Adaptation of Large Language Models», 2021, arXiv 2106.09685. Both matrices are narrow
//! where the kernels of [`linear`](crate::linear) want to be wide, so they have loops of their own. Numbers are 16-bit integers with
//! an f32 scale for each row: two bytes as in f16, but four bits finer next to a row's largest, and widened by
//! one instruction on every set.
//!
//! ```text
//! A [rank, columns]: groups of four rows, in them sixteen columns of each row in turn
//! B [rows, rank]:    tiles of sixteen rows, in them the sixteen rows of each column in turn
//! ```
//!
//! Both are padded with zeros. The order of all sums is fixed, so that every instruction set gives the same bits.

use core::ops::Range;

use crate::math::{LANES, sum_lanes};
use crate::vector::for_each_isa;
use crate::{Error, Isa, Operand};

/// Rows of A that are multiplied side by side.
const RANKS: usize = 4;

/// Tiles of B that are multiplied side by side.
const TILES: usize = 4;

/// Rows of B in a tile: ranges of rows start at multiples of this.
pub const ROW_TILE: usize = LANES;

/// The largest code.
const REACH: f32 = 32_767.0;

/// Integers that a packed A `[rank, columns]` has.
///
/// # Errors
/// [`Error::Overflow`].
pub fn down_len(rank: usize, columns: usize) -> Result<usize, Error> {
    padded(rank, RANKS)?
        .checked_mul(padded(columns, LANES)?)
        .ok_or(Error::Overflow)
}

/// Integers that a packed B `[rows, rank]` has.
///
/// # Errors
/// [`Error::Overflow`].
pub fn up_len(rows: usize, rank: usize) -> Result<usize, Error> {
    padded(rows, LANES)?
        .checked_mul(rank)
        .ok_or(Error::Overflow)
}

fn padded(count: usize, to: usize) -> Result<usize, Error> {
    count.checked_next_multiple_of(to).ok_or(Error::Overflow)
}

/// Packs A, `values` `[rank, columns]`, into `codes` of [`down_len`]; `scales` `[rank]` get each row's factor.
///
/// # Errors
/// [`Error::Length`] when a slice disagrees with the shape, [`Error::Shape`] for one without numbers.
pub fn pack_down(
    values: &[f32],
    columns: usize,
    codes: &mut [i16],
    scales: &mut [f32],
) -> Result<(), Error> {
    check(
        values,
        columns,
        codes,
        down_len(scales.len(), columns)?,
        scales,
    )?;
    codes.fill(0);
    let group_len = RANKS * padded(columns, LANES)?;
    let groups = codes.chunks_exact_mut(group_len);
    let rows = values.chunks(RANKS * columns).zip(scales.chunks_mut(RANKS));
    for (group, (rows, scales)) in groups.zip(rows) {
        for (row, (values, scale)) in rows.chunks(columns).zip(scales).enumerate() {
            *scale = scale_of(values);
            let places = group.chunks_exact_mut(RANKS * LANES);
            for (chunk, values) in places.zip(values.chunks(LANES)) {
                let places = chunk.iter_mut().skip(row * LANES);
                places
                    .zip(values)
                    .for_each(|(place, value)| *place = code(*value, *scale));
            }
        }
    }
    Ok(())
}

/// Packs B, `values` `[rows, rank]`, into `codes` of [`up_len`]; `scales` `[rows]` get each row's factor.
///
/// # Errors
/// As [`pack_down`].
pub fn pack_up(
    values: &[f32],
    rank: usize,
    codes: &mut [i16],
    scales: &mut [f32],
) -> Result<(), Error> {
    check(values, rank, codes, up_len(scales.len(), rank)?, scales)?;
    codes.fill(0);
    let tiles = codes.chunks_exact_mut(LANES * rank);
    let rows = values.chunks(LANES * rank).zip(scales.chunks_mut(LANES));
    for (tile, (rows, scales)) in tiles.zip(rows) {
        for (row, (values, scale)) in rows.chunks(rank).zip(scales).enumerate() {
            *scale = scale_of(values);
            let places = tile.iter_mut().skip(row).step_by(LANES);
            places
                .zip(values)
                .for_each(|(place, value)| *place = code(*value, *scale));
        }
    }
    Ok(())
}

fn check(
    values: &[f32],
    columns: usize,
    codes: &[i16],
    code_len: usize,
    scales: &[f32],
) -> Result<(), Error> {
    if columns == 0 || scales.is_empty() {
        return Err(Error::Shape);
    }
    if scales.len().checked_mul(columns) != Some(values.len()) {
        return Err(Error::Length(Operand::Values));
    }
    if codes.len() != code_len {
        return Err(Error::Length(Operand::Packed));
    }
    Ok(())
}

/// The factor of a row: its largest magnitude gets the largest code.
fn scale_of(values: &[f32]) -> f32 {
    let largest = values
        .iter()
        .fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
    largest / REACH
}

/// The code nearest to `value`; the cast saturates.
fn code(value: f32, scale: f32) -> i16 {
    if scale > 0.0 {
        libm::rintf(value / scale) as i16
    } else {
        0
    }
}

/// `out = A x` for one token: `x` `[columns]`, `out` `[rank]`, and A as [`pack_down`] packed it.
///
/// # Errors
/// [`Error::Length`] when a slice disagrees with the shape, [`Error::Shape`] for one without numbers.
pub fn down(
    isa: Isa,
    codes: &[i16],
    scales: &[f32],
    x: &[f32],
    out: &mut [f32],
) -> Result<(), Error> {
    if x.is_empty() || scales.is_empty() {
        return Err(Error::Shape);
    }
    if codes.len() != down_len(scales.len(), x.len())? {
        return Err(Error::Length(Operand::Packed));
    }
    if out.len() != scales.len() {
        return Err(Error::Length(Operand::Output));
    }
    down_rows(isa, codes, scales, x, out);
    Ok(())
}

for_each_isa! {
    fn down_rows(codes: &[i16], scales: &[f32], x: &[f32], out: &mut [f32]) {
        let group_len = RANKS * x.len().next_multiple_of(LANES);
        let (whole, rest) = x.as_chunks::<LANES>();
        let mut last = [0f32; LANES];
        for (place, x) in last.iter_mut().zip(rest) {
            *place = *x;
        }
        let groups = codes.chunks_exact(group_len).zip(scales.chunks(RANKS));
        for ((codes, scales), out) in groups.zip(out.chunks_mut(RANKS)) {
            let (chunks, _) = codes.as_chunks::<{ RANKS * LANES }>();
            let mut sums = [[0f32; LANES]; RANKS];
            let mut chunks = chunks.iter();
            for (x, codes) in whole.iter().zip(chunks.by_ref()) {
                add_columns(&mut sums, codes, x);
            }
            if let Some(codes) = chunks.next() {
                add_columns(&mut sums, codes, &last);
            }
            for ((out, scale), sums) in out.iter_mut().zip(scales).zip(sums) {
                *out = sum_lanes(sums) * scale;
            }
        }
    }
}

/// Adds the products of sixteen columns of four rows.
#[inline(always)]
fn add_columns(sums: &mut [[f32; LANES]; RANKS], codes: &[i16; RANKS * LANES], x: &[f32; LANES]) {
    for rank in 0..RANKS {
        for lane in 0..LANES {
            sums[rank][lane] += f32::from(codes[rank * LANES + lane]) * x[lane];
        }
    }
}

/// `out += B hidden` for one token and the rows of `range`: `hidden` `[rank]`, `out` `[range.len()]`, and B as [`pack_up`] packed
/// it.
///
/// # Errors
/// [`Error::RowRange`] for a range that doesn't start on a tile and end on one or with the last row; [`Error::Length`] when a
/// slice disagrees with the shape, [`Error::Shape`] for one without numbers.
pub fn up(
    isa: Isa,
    codes: &[i16],
    scales: &[f32],
    hidden: &[f32],
    range: Range<usize>,
    out: &mut [f32],
) -> Result<(), Error> {
    let rank = hidden.len();
    if rank == 0 {
        return Err(Error::Shape);
    }
    if codes.len() != up_len(scales.len(), rank)? {
        return Err(Error::Length(Operand::Packed));
    }
    let on_edge = |row: usize| row.is_multiple_of(LANES) || row == scales.len();
    if range.start > range.end || !on_edge(range.start) || !on_edge(range.end) {
        return Err(Error::RowRange);
    }
    if out.len() != range.len() {
        return Err(Error::Length(Operand::Output));
    }
    let tiles = range.start / LANES * LANES * rank..range.end.next_multiple_of(LANES) * rank;
    let (Some(codes), Some(scales)) = (codes.get(tiles), scales.get(range)) else {
        return Err(Error::RowRange);
    };
    up_rows(isa, codes, scales, hidden, out);
    Ok(())
}

for_each_isa! {
    fn up_rows(codes: &[i16], scales: &[f32], hidden: &[f32], out: &mut [f32]) {
        let tile_len = LANES * hidden.len();
        let groups = codes.chunks(TILES * tile_len).zip(scales.chunks(TILES * LANES));
        for ((codes, scales), out) in groups.zip(out.chunks_mut(TILES * LANES)) {
            let mut sums = [[0f32; LANES]; TILES];
            if codes.len() == TILES * tile_len {
                let (first, second) = codes.split_at(2 * tile_len);
                let (tiles, more) = (first.split_at(tile_len), second.split_at(tile_len));
                let columns = tiles.0.as_chunks::<LANES>().0.iter().zip(tiles.1.as_chunks::<LANES>().0);
                let others = more.0.as_chunks::<LANES>().0.iter().zip(more.1.as_chunks::<LANES>().0);
                for ((h, (a, b)), (c, d)) in hidden.iter().zip(columns).zip(others) {
                    add_rows(&mut sums[0], a, *h);
                    add_rows(&mut sums[1], b, *h);
                    add_rows(&mut sums[2], c, *h);
                    add_rows(&mut sums[3], d, *h);
                }
            } else {
                for (sums, codes) in sums.iter_mut().zip(codes.chunks_exact(tile_len)) {
                    for (h, codes) in hidden.iter().zip(codes.as_chunks::<LANES>().0) {
                        add_rows(sums, codes, *h);
                    }
                }
            }
            for ((out, scale), sum) in out.iter_mut().zip(scales).zip(sums.as_flattened()) {
                *out += sum * scale;
            }
        }
    }
}

/// Adds the products of one column of sixteen rows.
#[inline(always)]
fn add_rows(sums: &mut [f32; LANES], codes: &[i16; LANES], h: f32) {
    for lane in 0..LANES {
        sums[lane] += f32::from(codes[lane]) * h;
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn numbers(count: usize, seed: u32, size: f32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next() * size).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    }

    /// As near as codes of 15 bits allow, with no margin for a number in the wrong place; and alike on every instruction set.
    #[test]
    fn odd_shapes_against_plain_sums_on_every_instruction_set() {
        for (rows, columns, rank, size) in [
            (64, 64, 16, 1.0),
            (100, 33, 3, 1e-9),
            (1, 1, 1, 1e9),
            (17, 576, 5, 1.0),
            (200, 15, 64, 1e-3),
        ] {
            let (a, b) = (
                numbers(rank * columns, 1, size),
                numbers(rows * rank, 2, size),
            );
            let (x, start) = (numbers(columns, 3, 1.0), numbers(rows, 4, size * size));
            let (mut a_codes, mut a_scales) =
                (vec![1; down_len(rank, columns).unwrap()], vec![0.0; rank]);
            let (mut b_codes, mut b_scales) =
                (vec![1; up_len(rows, rank).unwrap()], vec![0.0; rows]);
            pack_down(&a, columns, &mut a_codes, &mut a_scales).unwrap();
            pack_up(&b, rank, &mut b_codes, &mut b_scales).unwrap();
            let run = |isa| {
                let (mut hidden, mut y) = (vec![0.0; rank], start.clone());
                down(isa, &a_codes, &a_scales, &x, &mut hidden).unwrap();
                // In two parts, as two threads would.
                let cut = (rows / 2).next_multiple_of(ROW_TILE).min(rows);
                let (first, second) = y.split_at_mut(cut);
                up(isa, &b_codes, &b_scales, &hidden, 0..cut, first).unwrap();
                up(isa, &b_codes, &b_scales, &hidden, cut..rows, second).unwrap();
                (hidden, y)
            };
            let (hidden, y) = run(Isa::SCALAR);
            let reach = f64::from(size) * 4e-5;
            for (found, row) in hidden.iter().zip(a.chunks(columns)) {
                assert!((f64::from(*found) - dot(row, &x)).abs() < reach * columns as f64);
            }
            for ((found, row), start) in y.iter().zip(b.chunks(rank)).zip(&start) {
                let expected = f64::from(*start) + dot(row, &hidden);
                let largest = hidden.iter().fold(0f32, |m, h| m.max(h.abs()));
                let bound = reach * f64::from(largest) * rank as f64 + 1e-6 * expected.abs();
                assert!(
                    (f64::from(*found) - expected).abs() < bound,
                    "{found} {expected}"
                );
            }
            for isa in Isa::available() {
                assert_eq!(run(isa), (hidden.clone(), y.clone()), "{}", isa.name());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let isa = Isa::detect();
        let (mut codes, mut scales) = (vec![0; up_len(40, 4).unwrap()], vec![0.0; 40]);
        pack_up(&[0.0; 160], 4, &mut codes, &mut scales).unwrap();
        let up = |range: Range<usize>, out: usize| {
            super::up(isa, &codes, &scales, &[1.0; 4], range, &mut vec![0.0; out])
        };
        assert_eq!(up(32..40, 8), Ok(()));
        assert_eq!(up(0..0, 0), Ok(()));
        assert_eq!(up(8..40, 32), Err(Error::RowRange));
        assert_eq!(up(0..24, 24), Err(Error::RowRange));
        assert_eq!(up(0..48, 48), Err(Error::RowRange));
        assert_eq!(up(0..16, 15), Err(Error::Length(Operand::Output)));
        let wrong = super::up(isa, &codes, &scales, &[1.0; 5], 0..40, &mut [0.0; 40]);
        assert_eq!(wrong, Err(Error::Length(Operand::Packed)));
        assert_eq!(
            down(isa, &[0; 64], &[0.0; 4], &[], &mut [0.0; 4]),
            Err(Error::Shape)
        );
        assert_eq!(down_len(usize::MAX, 2), Err(Error::Overflow));
        assert!(pack_down(&[0.0; 6], 3, &mut [0; 64], &mut [0.0; 3]).is_err());
    }
}
