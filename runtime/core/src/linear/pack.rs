//! Rearranging weights into a kernel's tiles, and reading a row back.

use super::layout::{Interleave, Nibbles, PARAM_BYTES, ROW_TILE, TileShape, part_of};
use crate::{BlockWeights, DenseWeights, Floats, f16};

/// Packs the rows of one tile, starting at `first_row`. Rows past the end become zeros.
pub(crate) fn pack_blocks(
    weights: &BlockWeights<'_>,
    first_row: usize,
    interleave: Interleave,
    shape: TileShape,
    block: usize,
    tile: &mut [u8],
) {
    tile.fill(0);
    let rows = ROW_TILE.min(weights.rows().saturating_sub(first_row));
    let parts = weights.block_size() / part_of(block);
    let blocks = weights.columns().div_ceil(weights.block_size());
    let (codes, rest) = tile.split_at_mut(shape.params_at);
    let (params, multipliers) = rest.split_at_mut(shape.multipliers_at - shape.params_at);
    for row in 0..rows {
        let (multiplier, inverse) = row_multiplier(weights, first_row + row, blocks);
        put(multipliers, row * 4, multiplier.to_ne_bytes());
        for file_block in 0..blocks {
            let scale = weights.scale(first_row + row, file_block);
            let offset = -scale * weights.centred_zero_point(first_row + row, file_block);
            let scale = f16::from_f32(scale * inverse).to_ne_bytes();
            let offset = f16::from_f32(offset * inverse).to_ne_bytes();
            let source = weights.block_codes(first_row + row, file_block);
            for (part, source) in source.chunks_exact(shape.row_bytes).enumerate() {
                // A file's block may be several of ours.
                let index = file_block * parts + part;
                let our_block = index / shape.parts;
                if our_block >= shape.blocks {
                    break;
                }
                let at = our_block * shape.params_bytes
                    + interleave.scale_position(row, shape.params_bytes);
                put(params, at, scale);
                if shape.params_bytes > PARAM_BYTES {
                    put(params, at + interleave.offset_distance(), offset);
                }
                let start = index * shape.row_bytes * ROW_TILE;
                let Some(target) = codes.get_mut(start..start + shape.row_bytes * ROW_TILE) else {
                    return;
                };
                put_codes(target, source, row, weights.bits(), interleave);
            }
        }
    }
}

fn put<const N: usize>(target: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(target) = target.get_mut(at..).and_then(|t| t.first_chunk_mut::<N>()) {
        *target = bytes;
    }
}

/// A power of two that brings the largest parameter of a row near 2¹⁴, and its inverse.
fn row_multiplier(weights: &BlockWeights<'_>, row: usize, blocks: usize) -> (f32, f32) {
    let largest = (0..blocks).fold(0f32, |m, block| {
        let scale = weights.scale(row, block).abs();
        let offset = (scale * weights.centred_zero_point(row, block)).abs();
        m.max(scale).max(offset)
    });
    if largest == 0.0 || !largest.is_finite() {
        return (1.0, 1.0);
    }
    let exponent = ((largest.to_bits() >> 23) as i32 - 127 - 14).clamp(-120, 120);
    let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    (power(exponent), power(-exponent))
}

/// Scatters one row's code bytes of one part of a block.
fn put_codes(target: &mut [u8], source: &[u8], row: usize, bits: u8, interleave: Interleave) {
    let mut ordered = [0; MAX_ROW_BYTES];
    let source = if bits == 4 {
        if interleave.nibbles == Nibbles::Rows {
            return put_nibbles(target, source, row, interleave);
        }
        source
    } else {
        let (even, odd) = ordered.split_at_mut(source.len() / 2);
        let pairs = source.as_chunks::<2>().0.iter().enumerate();
        for ((even, odd), (byte, &[a, b])) in even.iter_mut().zip(odd).zip(pairs) {
            // Both halves have an even number of bytes.
            let flip = interleave.signs.flip(byte);
            (*even, *odd) = (a ^ flip, b ^ flip);
        }
        ordered.get(..source.len()).unwrap_or(&[])
    };
    match interleave.unit {
        2 => put_units::<2>(target, source, row, interleave),
        4 => put_units::<4>(target, source, row, interleave),
        16 => put_units::<16>(target, source, row, interleave),
        _ => put_units::<8>(target, source, row, interleave),
    }
}

/// Puts one row's 4-bit codes beside those of the row that shares its bytes, four at a time; `target` starts as zeros.
fn put_nibbles(target: &mut [u8], source: &[u8], row: usize, interleave: Interleave) {
    const UNIT: usize = 4;
    let first = interleave.nibble(row, 0, source.len());
    let flip = u32::from_ne_bytes([first.flip; UNIT]);
    let fours = source.as_chunks::<UNIT>().0.iter();
    let fours = fours.map(|&four| u32::from_ne_bytes(four));
    let low = fours.clone().map(|four| four & 0x0F0F_0F0F);
    let high = fours.map(|four| four >> 4 & 0x0F0F_0F0F);
    let places = target.as_chunks_mut::<UNIT>().0.iter_mut();
    let places = places.skip(first.byte / UNIT).step_by(interleave.rows);
    for (place, codes) in places.zip(low.chain(high)) {
        let codes = codes << first.shift ^ flip;
        *place = (u32::from_ne_bytes(*place) | codes).to_ne_bytes();
    }
}

/// The most code bytes one row has in one part of a block: 32 columns of 8 bits.
const MAX_ROW_BYTES: usize = 32;

fn put_units<const UNIT: usize>(
    target: &mut [u8],
    source: &[u8],
    row: usize,
    interleave: Interleave,
) {
    let first = interleave.position(row, 0, source.len()) / UNIT;
    let places = target.as_chunks_mut::<UNIT>().0.iter_mut();
    let places = places.skip(first).step_by(interleave.rows);
    for (place, unit) in places.zip(source.as_chunks::<UNIT>().0) {
        *place = *unit;
    }
}

/// Packs the rows of one tile of unquantised weights. Rows past the end become zeros.
pub(crate) fn pack_dense(weights: &DenseWeights<'_>, first_row: usize, tile: &mut [u8]) {
    tile.fill(0);
    let rows = ROW_TILE.min(weights.rows().saturating_sub(first_row));
    let columns = weights.columns();
    for row in 0..rows {
        let start = (first_row + row) * columns;
        match weights.values() {
            Floats::F32(values) => {
                for (column, value) in values
                    .get(start..start + columns)
                    .unwrap_or(&[])
                    .iter()
                    .enumerate()
                {
                    put(tile, (column * ROW_TILE + row) * 4, value.to_ne_bytes());
                }
            }
            Floats::F16(values) => {
                for (column, value) in values
                    .get(start..start + columns)
                    .unwrap_or(&[])
                    .iter()
                    .enumerate()
                {
                    put(tile, (column * ROW_TILE + row) * 2, value.to_ne_bytes());
                }
            }
        }
    }
}

fn take<const N: usize>(source: &[u8], at: usize) -> [u8; N] {
    source
        .get(at..)
        .and_then(|s| s.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

/// Widens one row of a packed block-quantised tile into `out`.
pub(crate) fn unpack_blocks(
    tile: &[u8],
    row: usize,
    interleave: Interleave,
    shape: TileShape,
    bits: u8,
    block: usize,
    out: &mut [f32],
) {
    let multiplier = f32::from_ne_bytes(take(tile, shape.multipliers_at + row * 4));
    let part = part_of(block).max(2);
    for (index, out) in out.chunks_mut(part).enumerate() {
        let at = shape.params_at
            + index / shape.parts.max(1) * shape.params_bytes
            + interleave.scale_position(row, shape.params_bytes);
        let scale = f16::from_ne_bytes(take(tile, at)).to_f32() * multiplier;
        let offset = if shape.params_bytes > PARAM_BYTES {
            f16::from_ne_bytes(take(tile, at + interleave.offset_distance())).to_f32() * multiplier
        } else {
            0.0
        };
        let codes = tile
            .get(index * shape.row_bytes * ROW_TILE..)
            .unwrap_or(&[]);
        for (column, out) in out.iter_mut().enumerate() {
            let place = column / 2 + column % 2 * (part / 2);
            let code = if bits == 4 {
                let place = interleave.nibble(row, place, part / 2);
                let [byte] = take(codes, place.byte);
                i32::from((byte ^ place.flip) >> place.shift & 15) - 8
            } else {
                let [byte] = take(codes, interleave.position(row, place, shape.row_bytes));
                i32::from(byte ^ interleave.signs.flip(place)) - 128
            };
            *out = code as f32 * scale + offset;
        }
    }
}

/// Widens one row of a packed dense tile into `out`.
pub(crate) fn unpack_dense(tile: &[u8], row: usize, shape: TileShape, out: &mut [f32]) {
    for (column, out) in out.iter_mut().enumerate() {
        let at = (column * ROW_TILE + row) * shape.row_bytes;
        *out = if shape.row_bytes == 2 {
            f16::from_ne_bytes(take(tile, at)).to_f32()
        } else {
            f32::from_ne_bytes(take(tile, at))
        };
    }
}
