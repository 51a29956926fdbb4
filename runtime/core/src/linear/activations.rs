//! Activations as the kernels want them: quantised on the fly, 16 or 32 columns to a scale.
//!
//! For each token and block: `d = max|x| / 127`, `q = round(x / d)` to even, as i8. Rounding is to the
//! nearest by adding 1.5·2²³, so the integer appears in the low bits and any vector width gives the same.
//! Codes of a block are in the order even columns, odd columns (see `layout`). A block with an infinity or
//! a NaN gets a NaN scale, so that its outputs are NaN and not quietly wrong.
//!
//! Tokens go in groups of sizes that a kernel names, the largest first. A group is one stream in the order a kernel
//! reads it: for each block, for each token of the group, one record of codes and numbers.

use crate::math::ROUND;
use crate::vector::for_each_isa;
use crate::{Error, Isa};

/// The most tokens that a tile function takes at once.
pub(crate) const MAX_GROUP: usize = 16;

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
    /// What sums of products start at, `-middle * Σq` as four i32, and then a plain record: what `sdot` on four rows
    /// wants.
    Started { middle: i32 },
    /// The records of two tokens a, b in one: twice their starts as `[a, b, a, b]`, then `[d a, d b, d a, d b]`, the same of
    /// `d * Σq`, and eight codes of each in turn. What `smmla` wants. A group of one token is [`Order::Started`].
    StartedPairs { middle: i32 },
    /// Not quantised: one f32 a column and token.
    Float,
}

/// How a kernel wants its activations. Kernels with equal layouts can share one prepared buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationLayout {
    pub(crate) order: Order,
    /// Columns that share a scale; 1 for floats.
    pub(crate) block: usize,
    /// Sizes of the groups of tokens, the largest first, the last of them 1.
    pub(crate) groups: &'static [usize],
}

/// Sizes of a prepared buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationShape {
    /// Bytes of one token's records.
    pub token_bytes: usize,
    pub bytes: usize,
}

/// Bytes of what sums start at in a record of [`Order::Started`].
pub(crate) const START_BYTES: usize = 16;

impl ActivationLayout {
    pub(crate) fn shape(self, tokens: usize, columns: usize) -> Result<ActivationShape, Error> {
        let record = match self.order {
            Order::Float => 4,
            order => order.record_bytes(self.block),
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
        for &size in self.groups {
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
            #[cfg(target_arch = "aarch64")]
            (order, 16) if isa != Isa::SCALAR => quantise_neon::<16>(order, x, place, records),
            #[cfg(target_arch = "aarch64")]
            (order, _) if isa != Isa::SCALAR => quantise_neon::<32>(order, x, place, records),
            (order, 16) => quantise_portably::<16>(isa, order, x, place, records),
            (order, _) => quantise_portably::<32>(isa, order, x, place, records),
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

for_each_isa! {
    fn quantise_portably<const BLOCK: usize>(order: Order, x: &[f32], place: Place, records: &mut [u8]) {
        quantise::<BLOCK>(order, x, place, records, quantise_block);
    }
}

#[cfg(target_arch = "aarch64")]
fn quantise_neon<const BLOCK: usize>(order: Order, x: &[f32], place: Place, records: &mut [u8]) {
    quantise::<BLOCK>(order, x, place, records, super::quantise_neon::quantise_block);
}

/// A block's scale `d`, and the sum of its codes.
pub(super) struct Numbers {
    pub scale: f32,
    pub sum: i32,
}

impl Numbers {
    /// `d`, `d * Σq`, `-8 Σq` and `-128 Σq`.
    #[inline(always)]
    fn bytes(&self) -> [u8; NUMBER_BYTES] {
        let mut bytes = [0; NUMBER_BYTES];
        let numbers = [
            self.scale.to_bits(),
            self.scaled_sum().to_bits(),
            (-8 * self.sum) as u32,
            (-128 * self.sum) as u32,
        ];
        put_all(&mut bytes, numbers);
        bytes
    }

    #[inline(always)]
    fn scaled_sum(&self) -> f32 {
        self.scale * self.sum as f32
    }
}

/// Writes numbers one after the other.
#[inline(always)]
fn put_all<const N: usize>(bytes: &mut [u8], numbers: [u32; N]) {
    for (to, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *to = number.to_ne_bytes();
    }
}

/// The scale of a block whose largest magnitude has the bits `largest`, and what values are multiplied by.
#[inline(always)]
pub(super) fn scale_and_inverse(largest: u32) -> (f32, f32) {
    let amax = f32::from_bits(largest);
    if largest >= 0x7F80_0000 {
        (f32::NAN, 0.0)
    } else if amax < 1e-30 {
        (0.0, 0.0)
    } else {
        (amax / 127.0, 127.0 / amax)
    }
}

/// Codes of one block, even columns first, and its numbers.
#[inline(always)]
fn quantise_block<const BLOCK: usize>(x: &[f32; BLOCK]) -> ([u8; BLOCK], Numbers) {
    let largest = x.iter().fold(0u32, |m, v| {
        let bits = v.to_bits() & 0x7FFF_FFFF;
        if bits > m { bits } else { m }
    });
    let (scale, inverse) = scale_and_inverse(largest);
    let mut codes = [0u8; BLOCK];
    let mut sum = 0i32;
    for i in 0..BLOCK / 2 {
        let even = (x[2 * i] * inverse + ROUND).to_bits() as u8 as i8;
        let odd = (x[2 * i + 1] * inverse + ROUND).to_bits() as u8 as i8;
        sum += i32::from(even) + i32::from(odd);
        codes[i] = even as u8;
        codes[BLOCK / 2 + i] = odd as u8;
    }
    (codes, Numbers { scale, sum })
}

impl Order {
    /// Bytes of one token's record of a block.
    #[inline(always)]
    fn record_bytes(self, block: usize) -> usize {
        match self {
            Order::Plain => block + NUMBER_BYTES,
            Order::Pairs4 => block * 4 + NUMBER_BYTES,
            Order::Started { .. } | Order::StartedPairs { .. } => {
                START_BYTES + block + NUMBER_BYTES
            }
            Order::Float => 4 * block,
        }
    }
}

/// Writes the records of one token of a group, with `quantise` for each block; the last one is padded with zeros.
#[inline(always)]
fn quantise<const BLOCK: usize>(
    order: Order,
    x: &[f32],
    place: Place,
    records: &mut [u8],
    quantise_block: impl Fn(&[f32; BLOCK]) -> ([u8; BLOCK], Numbers),
) {
    let bytes = order.record_bytes(BLOCK);
    let mut records = records.chunks_exact_mut(bytes * place.size);
    let mut one = |x: &[f32; BLOCK]| {
        let Some(records) = records.next() else { return };
        let (codes, numbers) = quantise_block(x);
        match order {
            Order::StartedPairs { middle } if place.size > 1 => {
                let start = place.token / 2 * 2 * bytes;
                if let Some(pair) = records.get_mut(start..start + 2 * bytes) {
                    put_pair(pair, place.token % 2, &codes, &numbers, middle);
                }
            }
            _ => {
                let start = place.token * bytes;
                if let Some(record) = records.get_mut(start..start + bytes) {
                    put_record(order, record, &codes, &numbers);
                }
            }
        }
    };
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    blocks.iter().for_each(&mut one);
    if !rest.is_empty() {
        let mut padded = [0.0; BLOCK];
        padded.iter_mut().zip(rest).for_each(|(p, &x)| *p = x);
        one(&padded);
    }
}

/// Writes one token's record of one block.
#[inline(always)]
fn put_record<const BLOCK: usize>(
    order: Order,
    record: &mut [u8],
    codes: &[u8; BLOCK],
    numbers: &Numbers,
) {
    match order {
        Order::Pairs4 => {
            let (to_codes, to_numbers) = record.split_at_mut(BLOCK * 4);
            let pairs = codes.as_chunks::<2>().0;
            for (to, &[a, b]) in to_codes.as_chunks_mut::<8>().0.iter_mut().zip(pairs) {
                *to = [a, b, a, b, a, b, a, b];
            }
            to_numbers.copy_from_slice(&numbers.bytes());
        }
        Order::Started { middle } | Order::StartedPairs { middle } => {
            let (start, record) = record.split_at_mut(START_BYTES);
            put_all(start, [(-middle * numbers.sum) as u32; 4]);
            put_record(Order::Plain, record, codes, numbers);
        }
        Order::Plain | Order::Float => {
            let (to_codes, to_numbers) = record.split_at_mut(BLOCK);
            to_codes.copy_from_slice(codes);
            to_numbers.copy_from_slice(&numbers.bytes());
        }
    }
}

/// Writes one token's part of the record of two.
#[inline(always)]
fn put_pair<const BLOCK: usize>(
    pair: &mut [u8],
    side: usize,
    codes: &[u8; BLOCK],
    numbers: &Numbers,
    middle: i32,
) {
    let (to_numbers, to_codes) = pair.split_at_mut(2 * (START_BYTES + NUMBER_BYTES));
    let start = (-middle * numbers.sum) as u32;
    let (scale, scaled_sum) = (numbers.scale.to_bits(), numbers.scaled_sum().to_bits());
    let numbers = [start, start, start, start, scale, scale, scaled_sum, scaled_sum];
    for (to, number) in to_numbers.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        put_all(&mut to[side * 4..side * 4 + 4], [number]);
    }
    let eights = codes.as_chunks::<8>().0;
    for (to, codes) in to_codes.as_chunks_mut::<16>().0.iter_mut().zip(eights) {
        to[side * 8..side * 8 + 8].copy_from_slice(codes);
    }
}
