//! Activations as the kernels want them: quantised on the fly, 16 or 32 columns to a scale.
//!
//! For each token and block: `d = max|x| / 127`, `q = round(x / d)` to even, as i8. Rounding is to the
//! nearest by adding 1.5·2²³, so the integer appears in the low bits and any vector width gives the same.
//! Codes of a block are in the order even columns, odd columns (see `layout`). A block with an infinity or
//! a NaN gets a NaN scale, so that its outputs are NaN and not quietly wrong.
//!
//! Tokens go in groups of [`TOKEN_GROUPS`], the largest first. A group is one stream in the order a kernel
//! reads it: for each block, for each token of the group, one record of codes and numbers.

use crate::math::ROUND;
use crate::vector::for_each_isa;
use crate::{Error, Isa};

/// How many tokens a tile function takes at once; a prompt is cut into such groups, the largest first.
pub(crate) const TOKEN_GROUPS: [usize; 4] = [8, 4, 2, 1];

/// Bytes of the numbers in a record.
pub(crate) const NUMBER_BYTES: usize = 16;

/// How the records of a group look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(target_arch = "aarch64"),
    allow(dead_code, reason = "some orders are AArch64 kernels' own")
)]
pub(crate) enum Order {
    /// Codes, then `[d, d * Σq]` as f32 and `[-8 Σq, -128 Σq]` as i32.
    Plain,
    /// The same with every pair of codes four times: what `smlal` on four rows wants.
    Pairs4,
    /// The records of two tokens in one: eight codes of each in turn, then each number of both. What
    /// `smmla` wants. A group of one token is plain.
    TokenPairs,
    /// Not quantised: one f32 a column and token.
    Float,
}

/// How a kernel wants its activations. Kernels with equal layouts can share one prepared buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationLayout {
    pub(crate) order: Order,
    /// Columns that share a scale; 1 for floats.
    pub(crate) block: usize,
}

/// Sizes of a prepared buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationShape {
    /// Bytes of one token's records.
    pub token_bytes: usize,
    pub bytes: usize,
}

impl ActivationLayout {
    pub(crate) fn shape(self, tokens: usize, columns: usize) -> Result<ActivationShape, Error> {
        let record = match self.order {
            Order::Plain | Order::TokenPairs => self.block + NUMBER_BYTES,
            Order::Pairs4 => self.block * 4 + NUMBER_BYTES,
            Order::Float => 4,
        };
        let blocks = columns.div_ceil(self.block);
        let token_bytes = blocks.checked_mul(record).ok_or(Error::Overflow)?;
        let bytes = token_bytes.checked_mul(tokens).ok_or(Error::Overflow)?;
        Ok(ActivationShape { token_bytes, bytes })
    }

    /// Fills `dst` from `x` `[tokens, columns]`. Lengths were checked by the caller.
    pub(crate) fn prepare(
        self,
        isa: Isa,
        x: &[f32],
        columns: usize,
        shape: ActivationShape,
        dst: &mut [u8],
    ) {
        let (mut x, mut dst) = (x, dst);
        for size in TOKEN_GROUPS {
            while let Some((group, rest)) = x.split_at_checked(size * columns) {
                let bytes = size * shape.token_bytes;
                let Some((records, rest_records)) = dst.split_at_mut_checked(bytes) else {
                    return;
                };
                for (token, x) in group.chunks_exact(columns).enumerate() {
                    self.prepare_token(isa, x, Place { size, token }, records);
                }
                (x, dst) = (rest, rest_records);
            }
        }
    }

    fn prepare_token(self, isa: Isa, x: &[f32], place: Place, records: &mut [u8]) {
        match (self.order, self.block) {
            (Order::Float, _) => copy_floats(isa, x, place, records),
            (Order::Pairs4, 16) => quantise_pairs4::<16>(isa, x, place, records),
            (Order::Pairs4, _) => quantise_pairs4::<32>(isa, x, place, records),
            (Order::TokenPairs, 16) if place.size > 1 => {
                quantise_token_pairs::<16>(isa, x, place, records);
            }
            (Order::TokenPairs, _) if place.size > 1 => {
                quantise_token_pairs::<32>(isa, x, place, records);
            }
            (_, 16) => quantise_plain::<16>(isa, x, place, records),
            (_, _) => quantise_plain::<32>(isa, x, place, records),
        }
    }
}

/// Which token of a group of how many.
#[derive(Clone, Copy)]
struct Place {
    size: usize,
    token: usize,
}

for_each_isa! {
    fn copy_floats(x: &[f32], place: Place, records: &mut [u8]) {
        for (records, x) in records.chunks_exact_mut(place.size * 4).zip(x) {
            if let Some(record) = records.get_mut(place.token * 4..).and_then(|r| r.first_chunk_mut::<4>()) {
                *record = x.to_ne_bytes();
            }
        }
    }
}

/// What a kernel needs besides the codes: bytes of `d`, `d * Σq`, `-8 Σq` and `-128 Σq`.
type Numbers = [[u8; 4]; 4];

/// Codes of one block, even columns first, and its numbers.
#[inline(always)]
fn quantise_block<const BLOCK: usize>(x: &[f32; BLOCK]) -> ([u8; BLOCK], Numbers) {
    let largest = x.iter().fold(0u32, |m, v| {
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
    let mut codes = [0u8; BLOCK];
    let mut sum = 0i32;
    for i in 0..BLOCK / 2 {
        let even = (x[2 * i] * inverse + ROUND).to_bits() as u8 as i8;
        let odd = (x[2 * i + 1] * inverse + ROUND).to_bits() as u8 as i8;
        sum += i32::from(even) + i32::from(odd);
        codes[i] = even as u8;
        codes[BLOCK / 2 + i] = odd as u8;
    }
    let scaled_sum = scale * sum as f32;
    let numbers = [
        scale.to_ne_bytes(),
        scaled_sum.to_ne_bytes(),
        (-8 * sum).to_ne_bytes(),
        (-128 * sum).to_ne_bytes(),
    ];
    (codes, numbers)
}

/// Calls `store` with the `bytes` bytes of the group's records of each block, and the codes and numbers of
/// this token in that block, the last one padded with zeros.
#[inline(always)]
fn each_block<const BLOCK: usize>(
    x: &[f32],
    records: &mut [u8],
    bytes: usize,
    mut store: impl FnMut(&mut [u8], &[u8; BLOCK], &Numbers),
) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let mut records = records.chunks_exact_mut(bytes);
    for (x, records) in blocks.iter().zip(records.by_ref()) {
        let (codes, numbers) = quantise_block(x);
        store(records, &codes, &numbers);
    }
    if rest.is_empty() {
        return;
    }
    if let Some(records) = records.next() {
        let mut padded = [0.0; BLOCK];
        padded.iter_mut().zip(rest).for_each(|(p, &x)| *p = x);
        let (codes, numbers) = quantise_block(&padded);
        store(records, &codes, &numbers);
    }
}

for_each_isa! {
    fn quantise_plain<const BLOCK: usize>(x: &[f32], place: Place, records: &mut [u8]) {
        let record = BLOCK + NUMBER_BYTES;
        each_block::<BLOCK>(x, records, place.size * record, |records, codes, numbers| {
            let Some(record) = records.get_mut(place.token * record..(place.token + 1) * record) else {
                return;
            };
            let (to_codes, to_numbers) = record.split_at_mut(BLOCK);
            to_codes.copy_from_slice(codes);
            to_numbers.copy_from_slice(numbers.as_flattened());
        });
    }
}

for_each_isa! {
    fn quantise_pairs4<const BLOCK: usize>(x: &[f32], place: Place, records: &mut [u8]) {
        let record = BLOCK * 4 + NUMBER_BYTES;
        each_block::<BLOCK>(x, records, place.size * record, |records, codes, numbers| {
            let Some(record) = records.get_mut(place.token * record..(place.token + 1) * record) else {
                return;
            };
            let (to_codes, to_numbers) = record.split_at_mut(BLOCK * 4);
            let pairs = codes.as_chunks::<2>().0;
            for (to, &[a, b]) in to_codes.as_chunks_mut::<8>().0.iter_mut().zip(pairs) {
                *to = [a, b, a, b, a, b, a, b];
            }
            to_numbers.copy_from_slice(numbers.as_flattened());
        });
    }
}

for_each_isa! {
    fn quantise_token_pairs<const BLOCK: usize>(x: &[f32], place: Place, records: &mut [u8]) {
        let pair = 2 * (BLOCK + NUMBER_BYTES);
        let side = place.token % 2;
        each_block::<BLOCK>(x, records, place.size / 2 * pair, |records, codes, numbers| {
            let start = place.token / 2 * pair;
            let Some(record) = records.get_mut(start..start + pair) else { return };
            let (to_codes, to_numbers) = record.split_at_mut(2 * BLOCK);
            let eights = codes.as_chunks::<8>().0;
            for (to, codes) in to_codes.as_chunks_mut::<16>().0.iter_mut().zip(eights) {
                to[side * 8..side * 8 + 8].copy_from_slice(codes);
            }
            for (to, number) in to_numbers.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
                to[side * 4..side * 4 + 4].copy_from_slice(number);
            }
        });
    }
}
