//! The plain kernels: the definition of every kernel's result, and the fallback where no better one is.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, ROW_TILE, part_of};
use crate::f16;
use crate::math::{fma, widen};

implementations! {
    quantised: "scalar",
    dense: "scalar",
    Interleave::of(crate::IsaKind::Scalar),
    Order::Plain,
}

/// # Safety
/// `at` must be inside a buffer, and any bits there a value of `T`.
unsafe fn read<T: Copy>(at: *const u8) -> T {
    // SAFETY: the caller's promise.
    unsafe { at.cast::<T>().read_unaligned() }
}

/// # Safety
/// See [`super::kernel::TileFn`].
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe { any_tile::<BITS, OFFSET>(tile, BLOCK, TOKENS) };
}

/// All sizes of blocks and groups of tokens in one function: it is a microcontroller's, where code is dear.
///
/// # Safety
/// See [`super::kernel::TileFn`].
unsafe fn any_tile<const BITS: u8, const OFFSET: bool>(
    tile: &Tile<'_>,
    block: usize,
    tokens: usize,
) {
    let shape = tile.shape;
    for (token, row) in (0..tokens).flat_map(|token| (0..ROW_TILE).map(move |row| (token, row))) {
        let mut acc = 0f32;
        for index in 0..shape.blocks {
            // SAFETY: all addresses are within the tile and the activations, by the shape.
            unsafe {
                let record = (index * tokens + token) * (block + NUMBER_BYTES);
                let codes = tile.activations.add(record).cast::<i8>();
                let numbers = codes.add(block).cast::<u8>();
                let mut dot = 0i32;
                for part in 0..shape.parts {
                    let place = (index * shape.parts + part) * ROW_TILE + row;
                    let weights = tile.weights.add(place * shape.row_bytes);
                    let codes = codes.add(part * part_of(block));
                    dot += dot_part::<BITS>(weights, shape.row_bytes, codes);
                }
                let params = shape.params_at + index * shape.params_bytes + row * 2;
                let params = tile.weights.add(params);
                let scale = widen(read::<f16>(params));
                acc = fma(dot as f32, read::<f32>(numbers) * scale, acc);
                if OFFSET {
                    let offset = widen(read::<f16>(params.add(PARAM_BYTES)));
                    acc = fma(read::<f32>(numbers.add(4)), offset, acc);
                }
            }
        }
        // SAFETY: as above, and the output has sixteen rows for each token.
        unsafe {
            let multiplier = read::<f32>(tile.weights.add(shape.multipliers_at + row * 4));
            *tile.out.add(token * tile.out_stride + row) = acc * multiplier;
        }
    }
}

/// The dot product of one row's codes of a part, `bytes` of them, with one token's.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn dot_part<const BITS: u8>(weights: *const u8, bytes: usize, codes: *const i8) -> i32 {
    let mut dot = 0i32;
    for i in 0..bytes {
        // SAFETY: the caller's promise: a byte of 4-bit codes belongs to two activations.
        unsafe {
            let byte = *weights.add(i);
            let x = i32::from(*codes.add(i));
            if BITS == 4 {
                let (low, high) = (i32::from(byte & 15) - 8, i32::from(byte >> 4) - 8);
                dot += low * x + high * i32::from(*codes.add(bytes + i));
            } else {
                dot += i32::from(byte as i8) * x;
            }
        }
    }
    dot
}

/// # Safety
/// See [`super::kernel::TileFn`].
pub(super) unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile<'_>) {
    let mut acc = [[0f32; ROW_TILE]; TOKENS];
    for column in 0..tile.shape.blocks {
        for (token, acc) in acc.iter_mut().enumerate() {
            // SAFETY: all addresses are within the tile and the activations, by the shape.
            unsafe {
                let x = read::<f32>(tile.activations.add((column * TOKENS + token) * 4));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let at = tile.weights.add((column * ROW_TILE + row) * BYTES);
                    let weight = if BYTES == 2 {
                        widen(read::<f16>(at))
                    } else {
                        read::<f32>(at)
                    };
                    *acc = fma(weight, x, *acc);
                }
            }
        }
    }
    for (token, acc) in acc.into_iter().enumerate() {
        // SAFETY: the output has sixteen rows for each token.
        unsafe {
            let out = tile.out.add(token * tile.out_stride);
            core::ptr::copy_nonoverlapping(acc.as_ptr(), out, ROW_TILE);
        }
    }
}
