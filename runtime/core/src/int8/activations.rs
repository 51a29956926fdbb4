//! Activations of 8 bits with a zero point: `x = scale * (code - zero)`, as ONNX's `DynamicQuantizeLinear` defines them.
//!
//! For the numbers that share a range: `low = min(x, 0)`, `high = max(x, 0)`, `scale = (high - low) / 255`,
//! `zero = round(-low / scale)`, `code = saturate(round(x / scale) + zero)`, ties to even. A range with an infinity or a NaN
//! gets a NaN scale, so that outputs are NaN and not quietly wrong.

use crate::Isa;
use crate::math::{LANES, ROUND};
use crate::pieces::{pieces, pieces_mut};
use crate::vector::for_each_isa;
use core::array;

/// Bytes of a token's numbers: scale as f32, zero point and sum of codes as i32, and four to spare.
pub(super) const TOKEN_BYTES: usize = 16;

/// Which activations share a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ranges {
    /// Those of one token. Codes are made by multiplying with the inverse of the scale.
    Token,
    /// All of a call, as ONNX Runtime has it; codes are made by division, to get the same.
    Tensor,
}

/// Quantises `x`, rows of `columns`, into rows of `stride` codes and their numbers.
pub(super) fn prepare(
    isa: Isa,
    x: &[f32],
    columns: usize,
    stride: usize,
    ranges: Ranges,
    codes: &mut [u8],
    numbers: &mut [u8],
) {
    let shared = match ranges {
        Ranges::Token => None,
        Ranges::Tensor => Some(Scale::of(extent(isa, x))),
    };
    let rows = pieces(x, columns).zip(pieces_mut(codes, stride));
    for ((x, codes), numbers) in rows.zip(numbers.as_chunks_mut::<TOKEN_BYTES>().0) {
        let scale = shared.unwrap_or_else(|| Scale::of(extent(isa, x)));
        let Some((codes, padding)) = codes.split_at_mut_checked(columns) else {
            return;
        };
        padding.fill(0);
        let sum = match ranges {
            Ranges::Token => by_product(isa, x, 1.0 / scale.divisor, scale.zero, codes),
            Ranges::Tensor => by_division(isa, x, scale.divisor, scale.zero, codes),
        };
        let values = [
            scale.scale.to_ne_bytes(),
            (scale.zero as i32).to_ne_bytes(),
            sum.to_ne_bytes(),
            [0; 4],
        ];
        numbers.copy_from_slice(values.as_flattened());
    }
}

/// A scale and its zero point.
#[derive(Clone, Copy)]
struct Scale {
    /// What results are multiplied by.
    scale: f32,
    /// What activations are divided by: the same, but 1 where it is no finite number.
    divisor: f32,
    zero: f32,
}

impl Scale {
    fn of((low, high): (f32, f32)) -> Scale {
        let scale = (high - low) / 255.0;
        if !scale.is_finite() {
            return Scale {
                scale: f32::NAN,
                divisor: 1.0,
                zero: 0.0,
            };
        }
        // Below that the inverse is no finite number: as good as zero.
        if scale < 1e-37 {
            return Scale {
                scale: 1.0,
                divisor: 1.0,
                zero: 0.0,
            };
        }
        Scale {
            scale,
            divisor: scale,
            zero: (-low / scale + ROUND) - ROUND,
        }
    }
}

for_each_isa! {
    /// The least and the largest of the numbers and 0; infinite if one of them is, or is no number.
    fn extent(x: &[f32]) -> (f32, f32) {
        let mut low = [0f32; LANES];
        let mut high = [0f32; LANES];
        let mut bits = [0u32; LANES];
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut last = [0f32; LANES];
        last.iter_mut().zip(rest).for_each(|(last, &x)| *last = x);
        for chunk in chunks.iter().chain(core::iter::once(&last)) {
            // New arrays, not changed ones: those the compiler would keep in memory.
            low = array::from_fn(|lane| if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] });
            high = array::from_fn(|lane| if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] });
            bits = array::from_fn(|lane| bits[lane].max(chunk[lane].to_bits() & 0x7FFF_FFFF));
        }
        if bits.into_iter().any(|bits| bits >= 0x7F80_0000) {
            return (f32::NEG_INFINITY, f32::INFINITY);
        }
        let low = low.into_iter().fold(0.0, |m, x| if x < m { x } else { m });
        let high = high.into_iter().fold(0.0, |m, x| if x > m { x } else { m });
        (low, high)
    }
}

/// The code of a number of steps: rounded, moved by the zero point, kept in range.
#[inline(always)]
fn code(steps: f32, zero: f32) -> u8 {
    let code = ((steps + ROUND) - ROUND) + zero;
    let code = if code < 255.0 { code } else { 255.0 };
    let code = if code > 0.0 { code } else { 0.0 };
    (code + ROUND).to_bits() as u8
}

for_each_isa! {
    /// Codes of `x * factor`; returns their sum.
    fn by_product(x: &[f32], factor: f32, zero: f32, codes: &mut [u8]) -> i32 {
        let mut sum = 0;
        for (to, &x) in codes.iter_mut().zip(x) {
            *to = code(x * factor, zero);
            sum += i32::from(*to);
        }
        sum
    }
}

for_each_isa! {
    /// Codes of `x / divisor`; returns their sum.
    fn by_division(x: &[f32], divisor: f32, zero: f32, codes: &mut [u8]) -> i32 {
        let mut sum = 0;
        for (to, &x) in codes.iter_mut().zip(x) {
            *to = code(x / divisor, zero);
            sum += i32::from(*to);
        }
        sum
    }
}
