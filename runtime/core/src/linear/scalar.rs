//! The plain kernels: the definition of every kernel's result, and the fallback where no better one is.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, ROW_TILE};
use crate::f16;
use crate::math::fma;

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
    let shape = tile.shape;
    for (token, row) in (0..TOKENS).flat_map(|token| (0..ROW_TILE).map(move |row| (token, row))) {
        let mut acc = 0f32;
        for index in 0..shape.blocks {
            // SAFETY: all addresses are within the tile and the activations, by the shape.
            unsafe {
                let weights = tile.weights.add((index * ROW_TILE + row) * shape.row_bytes);
                let record = (index * TOKENS + token) * (BLOCK + NUMBER_BYTES);
                let codes = tile.activations.add(record).cast::<i8>();
                let numbers = codes.add(BLOCK).cast::<u8>();
                let mut dot = 0i32;
                for i in 0..shape.row_bytes {
                    let byte = *weights.add(i);
                    let x = i32::from(*codes.add(i));
                    if BITS == 4 {
                        let (low, high) = (i32::from(byte & 15) - 8, i32::from(byte >> 4) - 8);
                        dot += low * x + high * i32::from(*codes.add(BLOCK / 2 + i));
                    } else {
                        dot += i32::from(byte as i8) * x;
                    }
                }
                let params = shape.params_at + index * shape.params_bytes + row * 2;
                let params = tile.weights.add(params);
                let scale = read::<f16>(params).to_f32();
                acc = fma(dot as f32, read::<f32>(numbers) * scale, acc);
                if OFFSET {
                    let offset = read::<f16>(params.add(PARAM_BYTES)).to_f32();
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

/// # Safety
/// See [`super::kernel::TileFn`].
unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile<'_>) {
    let mut acc = [[0f32; ROW_TILE]; TOKENS];
    for column in 0..tile.shape.blocks {
        for (token, acc) in acc.iter_mut().enumerate() {
            // SAFETY: all addresses are within the tile and the activations, by the shape.
            unsafe {
                let x = read::<f32>(tile.activations.add((column * TOKENS + token) * 4));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let at = tile.weights.add((column * ROW_TILE + row) * BYTES);
                    let weight = if BYTES == 2 {
                        read::<f16>(at).to_f32()
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
