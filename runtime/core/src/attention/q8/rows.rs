//! How queries, keys and values lie in 8 bits.
//!
//! A row is cut into blocks of 32 columns, the last padded with zeros, each stored as `scale * code`: `scale = max|x| / 127`
//! as f32, codes as i8 rounded to nearest even. It takes 9/16 of the memory of f16.
//!
//! Sixteen positions of the cache interleave, so that a product of four columns (keys) or of four positions (values) ends
//! up in one lane, and nothing is added across lanes:
//!
//! ```text
//! queries  codes [heads][blocks][32]                         scales [blocks][heads]
//! keys     codes [groups][columns / 4][16 positions][4]      scales [groups][blocks][16 positions]
//! values   codes [groups][4][columns][4 positions]           scales [groups][blocks][16 positions]
//! ```

use crate::math::ROUND;
use crate::vector::for_each_isa;
use crate::{Error, Isa, Operand};

/// Columns that share a scale.
pub(super) const SHARED: usize = 32;

/// Positions of a cache whose codes interleave: caches hold whole groups of so many.
pub const Q8_POSITIONS: usize = 16;

/// How many scales a row of `columns` numbers has.
pub const fn q8_scales(columns: usize) -> usize {
    columns.div_ceil(SHARED)
}

/// How many codes a row of `columns` numbers has, with the padding.
pub const fn q8_columns(columns: usize) -> usize {
    q8_scales(columns).saturating_mul(SHARED)
}

/// How many rows there are in `codes` and `scales`, if they are whole rows and as many.
fn count(codes: usize, scales: usize, columns: usize) -> Option<usize> {
    let rows = codes.checked_div(q8_columns(columns))?;
    let whole = rows.checked_mul(q8_columns(columns)) == Some(codes)
        && rows.checked_mul(q8_scales(columns)) == Some(scales);
    whole.then_some(rows)
}

/// The queries of some heads in 8 bits.
pub(super) struct Queries {
    /// `[heads, blocks, 32]`.
    pub codes: [[i8; SHARED]; QUERY_BLOCKS],
    /// `[blocks, heads]`, multiplied by what all scores are; then as many more as make reading four at a time safe.
    pub scales: [f32; QUERY_BLOCKS + 3],
    /// The sum of each block's codes, `[heads, blocks]`.
    pub sums: [i32; QUERY_BLOCKS],
}

/// Blocks of the queries that are multiplied side by side: so much of the stack they take.
pub(super) const QUERY_BLOCKS: usize = 32;

/// The longest keys in 8 bits.
pub const Q8_MAX_COLUMNS: usize = SHARED * QUERY_BLOCKS;

impl Queries {
    /// Queries of zeros.
    pub(super) const ZEROS: Queries = Queries {
        codes: [[0; SHARED]; QUERY_BLOCKS],
        scales: [0.0; QUERY_BLOCKS + 3],
        sums: [0; QUERY_BLOCKS],
    };
}

for_each_isa! {
    /// Rounds rows of `columns` numbers, as many as there is room for; their scales are multiplied by `scale`.
    pub(super) fn narrow_queries(x: &[f32], columns: usize, scale: f32, queries: &mut Queries) {
        let heads = x.len().div_ceil(columns.max(1));
        let blocks = q8_scales(columns);
        let mut numbers = queries.codes.iter_mut().zip(&mut queries.sums);
        for (head, row) in x.chunks(columns.max(1)).enumerate() {
            for (block, (x, (codes, sum))) in row.chunks(SHARED).zip(numbers.by_ref().take(blocks)).enumerate() {
                let own;
                (*codes, own) = narrow(x);
                *sum = codes.iter().map(|&code| i32::from(code)).sum();
                if let Some(to) = queries.scales.get_mut(block * heads + head) {
                    *to = own * scale;
                }
            }
        }
    }
}

/// One head's keys or values of whole groups of [`Q8_POSITIONS`] positions, as [`store_key`] and [`store_value`] write them.
#[derive(Clone, Copy, Debug)]
pub struct Q8Groups<'a> {
    /// `[groups, Q8_POSITIONS * q8_columns(columns)]`.
    pub codes: &'a [i8],
    /// `[groups, Q8_POSITIONS * q8_scales(columns)]`.
    pub scales: &'a [f32],
}

impl Q8Groups<'_> {
    /// How many positions of `columns` there is room for; `None` where the lengths disagree.
    pub(super) fn positions(self, columns: usize) -> Option<usize> {
        count(self.codes.len(), self.scales.len(), columns)
            .filter(|positions| positions.is_multiple_of(Q8_POSITIONS))
    }
}

/// Rounds up to 32 numbers to codes and a scale. A block with an infinity or a NaN gets a NaN scale, so that it isn't
/// quietly wrong.
#[inline(always)]
fn narrow(x: &[f32]) -> ([i8; SHARED], f32) {
    let mut padded = [0f32; SHARED];
    match x.first_chunk::<SHARED>() {
        Some(x) => padded.copy_from_slice(x),
        None => padded.iter_mut().zip(x).for_each(|(p, &x)| *p = x),
    }
    let largest = padded.iter().fold(0u32, |m, v| {
        let bits = v.to_bits() & 0x7FFF_FFFF;
        if bits > m { bits } else { m }
    });
    let amax = f32::from_bits(largest);
    let (scale, inverse) = if largest >= 0x7F80_0000 {
        (f32::NAN, 0.0)
    } else if amax < 1e-30 {
        (0.0, 0.0)
    } else {
        (amax / 127.0, 127.0 / amax)
    };
    let mut codes = [0i8; SHARED];
    for (code, x) in codes.iter_mut().zip(&padded) {
        *code = (x * inverse + ROUND).to_bits() as u8 as i8;
    }
    (codes, scale)
}

/// Writes a key into position `place` of a group, `codes` and `scales`.
///
/// # Errors
/// [`Error::Shape`] for a place that is not in the group, [`Error::Length`] when the group is not of rows as long as `x`.
pub fn store_key(
    isa: Isa,
    x: &[f32],
    place: usize,
    codes: &mut [i8],
    scales: &mut [f32],
) -> Result<(), Error> {
    check_group(x, place, codes, scales)?;
    put_key(isa, x, place, codes, scales);
    Ok(())
}

/// Writes a value into position `place` of a group, `codes` and `scales`.
///
/// # Errors
/// As [`store_key`].
pub fn store_value(
    isa: Isa,
    x: &[f32],
    place: usize,
    codes: &mut [i8],
    scales: &mut [f32],
) -> Result<(), Error> {
    check_group(x, place, codes, scales)?;
    put_value(isa, x, place, codes, scales);
    Ok(())
}

fn check_group(x: &[f32], place: usize, codes: &[i8], scales: &[f32]) -> Result<(), Error> {
    if place >= Q8_POSITIONS {
        return Err(Error::Shape);
    }
    if count(codes.len(), scales.len(), x.len()) != Some(Q8_POSITIONS) {
        return Err(Error::Length(Operand::Output));
    }
    Ok(())
}

for_each_isa! {
    fn put_key(x: &[f32], place: usize, codes: &mut [i8], scales: &mut [f32]) {
        let blocks = codes.as_chunks_mut::<{ SHARED * Q8_POSITIONS }>().0;
        let numbers = scales.as_chunks_mut::<Q8_POSITIONS>().0;
        for ((x, to), scales) in x.chunks(SHARED).zip(blocks).zip(numbers) {
            let (codes, scale) = narrow(x);
            scales[place % Q8_POSITIONS] = scale;
            let rows = to.as_chunks_mut::<{ 4 * Q8_POSITIONS }>().0;
            for (four, to) in codes.as_chunks::<4>().0.iter().zip(rows) {
                to.as_chunks_mut::<4>().0[place % Q8_POSITIONS] = *four;
            }
        }
    }
}

for_each_isa! {
    fn put_value(x: &[f32], place: usize, codes: &mut [i8], scales: &mut [f32]) {
        let fours = codes.len() / 4;
        let own = codes.get_mut(place / 4 * fours..).unwrap_or(&mut []);
        let blocks = own.as_chunks_mut::<{ SHARED * 4 }>().0;
        let numbers = scales.as_chunks_mut::<Q8_POSITIONS>().0;
        for ((x, to), scales) in x.chunks(SHARED).zip(blocks).zip(numbers) {
            let (codes, scale) = narrow(x);
            scales[place % Q8_POSITIONS] = scale;
            for (code, to) in codes.iter().zip(to.as_chunks_mut::<4>().0) {
                to[place % 4] = *code;
            }
        }
    }
}
