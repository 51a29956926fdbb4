//! The plain kernels: the definition of every kernel's result, and the fallback where no better one is.

use super::activations::{ActivationLayout, META_BYTES, Order};
use super::layout::{Interleave, PARAM_BYTES, ROW_TILE};
use super::{Implementation, Tile, TileFn};
use crate::math::fma;
use crate::{WeightFormat, f16};

/// The scalar kernel for `format`.
pub(super) fn implementation(format: WeightFormat) -> &'static Implementation {
    implementation_of!(format, block, dense)
}

const fn block<const BITS: u8, const BLOCK: usize, const OFFSET: bool>() -> Implementation {
    Implementation {
        name: if BITS == 4 { "q4-scalar" } else { "q8-scalar" },
        interleave: Interleave {
            rows: 1,
            unit: 8,
            unsigned: false,
        },
        activations: ActivationLayout {
            order: Order::Plain,
            block: BLOCK,
        },
        tile_functions: const { &[(1, block_tile::<BITS, BLOCK, OFFSET> as TileFn)] },
    }
}

const fn dense<const BYTES: usize>() -> Implementation {
    let name = if BYTES == 2 {
        "f16-scalar"
    } else {
        "f32-scalar"
    };
    Implementation::dense(name, const { &[(1, dense_tile::<BYTES> as TileFn)] })
}

/// # Safety
/// See [`TileFn`].
unsafe fn read<T: Copy>(at: *const u8) -> T {
    // SAFETY: the caller gives an address inside a buffer, and any bits are a value of the integer and
    // float types this is used with.
    unsafe { at.cast::<T>().read_unaligned() }
}

/// # Safety
/// See [`TileFn`].
unsafe fn block_tile<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(tile: &Tile) {
    let shape = tile.shape;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        for row in 0..ROW_TILE {
            let mut acc = 0f32;
            for index in 0..shape.blocks {
                let weights = tile.weights.add((index * ROW_TILE + row) * shape.row_bytes);
                let codes = tile.codes.add(index * BLOCK).cast::<i8>();
                let mut dot = 0i32;
                for i in 0..shape.row_bytes {
                    let byte: u8 = read(weights.add(i));
                    if BITS == 4 {
                        let (low, high) = (i32::from(byte & 15) - 8, i32::from(byte >> 4) - 8);
                        dot += low * i32::from(*codes.add(i))
                            + high * i32::from(*codes.add(BLOCK / 2 + i));
                    } else {
                        dot += i32::from(byte as i8) * i32::from(*codes.add(i));
                    }
                }
                let meta = tile.meta.add(index * META_BYTES);
                let params = tile
                    .weights
                    .add(shape.params_at + index * shape.params_bytes + row * 2);
                let scale = read::<f16>(params).to_f32();
                acc = fma(dot as f32, read::<f32>(meta) * scale, acc);
                if OFFSET {
                    let offset = read::<f16>(params.add(PARAM_BYTES)).to_f32();
                    acc = fma(read::<f32>(meta.add(4)), offset, acc);
                }
            }
            *tile.out.add(row) =
                acc * read::<f32>(tile.weights.add(shape.multipliers_at + row * 4));
        }
    }
}

/// # Safety
/// See [`TileFn`].
unsafe fn dense_tile<const BYTES: usize>(tile: &Tile) {
    let mut acc = [0f32; ROW_TILE];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        for column in 0..tile.shape.blocks {
            let x = read::<f32>(tile.codes.add(column * 4));
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
        for (row, acc) in acc.into_iter().enumerate() {
            *tile.out.add(row) = acc;
        }
    }
}
