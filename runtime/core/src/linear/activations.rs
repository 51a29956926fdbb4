//! Activations as the kernels want them: quantised on the fly, as many columns to a scale as the weights have.
//!
//! For each token and block: `d = max|x| / 127`, `q = round(x / d)` to even, as i8. Rounding is to the
//! nearest by adding 1.5·2²³, so the integer appears in the low bits and any vector width gives the same.
//! Codes of a part of a block are in the order even columns, odd columns (see `layout`). A block with an infinity or
//! a NaN gets a NaN scale, so that its outputs are NaN and not quietly wrong.
//!
//! Tokens go in groups of sizes that a kernel names, the largest first. A group is one stream in the order a kernel
//! reads it: for each block, for each token of the group, one record of codes and numbers.

use super::layout::part_of;
use crate::math::ROUND;
use crate::pieces::pieces_mut;
use crate::vector::for_each_isa;
use crate::{Error, Feature, Isa, IsaKind, WeightFormat};

/// The most tokens that a tile function takes at once.
pub(crate) const MAX_GROUP: usize = 16;

/// Bytes of the numbers in a record.
pub(crate) const NUMBER_BYTES: usize = 16;

/// Bytes of the numbers of a token in a record of [`Order::SplitPairs`] or [`Order::Halves`].
pub(crate) const DSP_NUMBER_BYTES: usize = 12;

/// How the records of a group look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    dead_code,
    reason = "most orders belong to kernels of one architecture"
)]
pub(crate) enum Order {
    /// Codes, then `[d, d * Σq]` as f32 and `[-8 Σq, -128 Σq]` as i32. The kernels that are not AArch64's.
    Plain,
    /// The same with every pair of codes four times: what `smlal` on four rows wants.
    Pairs4,
    /// What sums of products start at, `-middle * Σq` as four i32, and then a plain record: what `sdot` on four rows
    /// wants.
    Started { middle: i32 },
    /// The records of two tokens a, b in one: twice their starts as `[a, a, b, b]`, then `[d a, d a, d b, d b]`, the same of
    /// `d * Σq`, and eight codes of each in turn. What `smmla` wants. Groups of one or two tokens are [`Order::Started`].
    StartedPairs { middle: i32 },
    /// As pairs of 16-bit numbers, in groups of four codes a, b, c, d: `256 a - b, 256 c - d` and `b, d`. What `smlad` on 8-bit
    /// weights wants. The records of a group of tokens are one: what each token's sums start at, the groups of all tokens in
    /// turn, then `d` of each and `d * Σq` of each.
    SplitPairs,
    /// As pairs of 16-bit numbers: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of each eight. What `smlad` on 4-bit weights
    /// wants. Tokens lie as in [`Order::SplitPairs`].
    Halves,
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
    /// Bytes of one token's record of a block.
    record_bytes: usize,
}

/// Sizes of a prepared buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationShape {
    /// Bytes of one token's records.
    pub token_bytes: usize,
    pub bytes: usize,
}

impl Order {
    /// Bytes of one token's record of a block of `block` columns.
    pub(super) const fn record_bytes(self, block: usize) -> usize {
        match self {
            Order::Plain => block + NUMBER_BYTES,
            Order::Pairs4 => block * 4 + NUMBER_BYTES,
            Order::Started { .. } | Order::StartedPairs { .. } => 16 + block + NUMBER_BYTES,
            Order::SplitPairs | Order::Halves => block * 2 + DSP_NUMBER_BYTES,
            Order::Float => block * 4,
        }
    }
}

/// Bytes of activations `[tokens, columns]` prepared for the kernel of `format` on `kind`, which this machine needn't have: what
/// someone who plans memory for another machine asks.
///
/// # Errors
/// [`Error::Overflow`].
pub fn activation_bytes(
    format: WeightFormat,
    kind: IsaKind,
    tokens: usize,
    columns: usize,
) -> Result<usize, Error> {
    let (order, block) = match (format, kind) {
        (WeightFormat::F16 | WeightFormat::F32, _) => (Order::Float, 1),
        (WeightFormat::Block { bits, block, .. }, IsaKind::ArmDsp) if block > 16 => {
            let halves = bits == 4;
            (
                if halves {
                    Order::Halves
                } else {
                    Order::SplitPairs
                },
                block,
            )
        }
        (WeightFormat::Block { block, .. }, IsaKind::Neon) => (Order::Pairs4, block),
        (WeightFormat::Block { block, .. }, IsaKind::NeonDotprod | IsaKind::NeonI8mm) => {
            (Order::Started { middle: 0 }, block)
        }
        (WeightFormat::Block { block, .. }, _) => (Order::Plain, block),
    };
    let layout = ActivationLayout::new(order, usize::from(block), &[1]);
    Ok(layout.shape(tokens, columns)?.bytes)
}

impl ActivationLayout {
    pub(crate) const fn new(
        order: Order,
        block: usize,
        groups: &'static [usize],
    ) -> ActivationLayout {
        ActivationLayout {
            order,
            block,
            groups,
            record_bytes: order.record_bytes(block),
        }
    }

    #[inline(always)]
    pub(crate) fn shape(&self, tokens: usize, columns: usize) -> Result<ActivationShape, Error> {
        self.shape_of_blocks(tokens, columns.div_ceil(self.block.max(1)))
    }

    /// The same for `blocks` blocks of columns a token.
    #[inline(always)]
    pub(crate) fn shape_of_blocks(
        &self,
        tokens: usize,
        blocks: usize,
    ) -> Result<ActivationShape, Error> {
        let record = self.record_bytes;
        let token_bytes = blocks.checked_mul(record).ok_or(Error::Overflow)?;
        let bytes = token_bytes.checked_mul(tokens).ok_or(Error::Overflow)?;
        Ok(ActivationShape { token_bytes, bytes })
    }

    /// Fills `dst` from `x` `[tokens, columns]`. Lengths were checked by the caller.
    pub(crate) fn prepare(
        &self,
        isa: Isa,
        x: &[f32],
        [tokens, columns]: [usize; 2],
        shape: ActivationShape,
        dst: &mut [u8],
    ) {
        #[cfg(arm_helium)]
        if self.order == Order::Plain && self.block >= 32 && isa.kind() == IsaKind::Helium {
            let (block, token_bytes) = (self.block, shape.token_bytes);
            // SAFETY: lengths were checked by the caller, and blocks have at most 128 columns.
            unsafe {
                super::quantise_helium::quantise(block, x, [tokens, columns], token_bytes, dst)
            };
            return;
        }
        self.prepare_groups(isa, x, [tokens, columns], shape, dst);
    }

    #[cfg_attr(arm_helium, inline(never))]
    #[cfg_attr(not(arm_helium), inline(always))]
    fn prepare_groups(
        &self,
        isa: Isa,
        x: &[f32],
        [tokens, columns]: [usize; 2],
        shape: ActivationShape,
        dst: &mut [u8],
    ) {
        let (mut x, mut dst, mut left) = (x, dst, tokens);
        for &size in self.groups {
            while left >= size {
                left -= size;
                let bytes = size * shape.token_bytes;
                let Some((records, rest)) = dst.split_at_mut_checked(bytes) else {
                    return;
                };
                dst = rest;
                for token in 0..size {
                    let Some((values, rest)) = x.split_at_checked(columns) else {
                        return;
                    };
                    self.prepare_token(isa, values, Place { size, token }, records);
                    x = rest;
                }
            }
        }
    }

    fn prepare_token(&self, isa: Isa, x: &[f32], place: Place, records: &mut [u8]) {
        match (self.order, self.block) {
            // Kernels that would read them aren't there either.
            (Order::Float, _) if !Feature::Dense.is_built() => {}
            (Order::Float, _) => copy_floats(isa, x, place, records),
            // SAFETY: every AArch64 instruction set but the scalar one has Advanced SIMD.
            #[cfg(target_arch = "aarch64")]
            (order, 16) if isa != Isa::SCALAR => unsafe {
                super::quantise_neon::quantise::<16>(order, x, place, records);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            (order, 32) if isa != Isa::SCALAR => unsafe {
                super::quantise_neon::quantise::<32>(order, x, place, records);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            (order, 64) if isa != Isa::SCALAR => unsafe {
                super::quantise_neon::quantise::<64>(order, x, place, records);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            (order, _) if isa != Isa::SCALAR => unsafe {
                super::quantise_neon::quantise::<128>(order, x, place, records);
            },
            #[cfg(arm_dsp)]
            (Order::SplitPairs | Order::Halves, block) => {
                super::quantise_arm_dsp::quantise(self.order, block, x, place, records);
            }
            _ if !Feature::Scalar.is_built() => {}
            _ => self.prepare_plain(isa, x, place, records),
        }
    }

    /// A function of its own on microcontrollers, so that those that have better ones don't carry its registers around.
    #[cfg_attr(arm_dsp, inline(never))]
    fn prepare_plain(&self, isa: Isa, x: &[f32], place: Place, records: &mut [u8]) {
        match self.block {
            16 => quantise_plain::<16>(isa, x, place, records),
            32 => quantise_plain::<32>(isa, x, place, records),
            64 => quantise_plain::<64>(isa, x, place, records),
            _ => quantise_plain::<128>(isa, x, place, records),
        }
    }
}

/// Which token of a group of how many.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub size: usize,
    pub token: usize,
}

for_each_isa! {
    fn copy_floats(x: &[f32], place: Place, records: &mut [u8]) {
        for (records, x) in records.chunks_exact_mut((place.size * 4).max(4)).zip(x) {
            if let Some(record) = records.get_mut(place.token * 4..).and_then(|r| r.first_chunk_mut::<4>()) {
                *record = x.to_ne_bytes();
            }
        }
    }
}

/// A block whose largest magnitude is smaller is all zeros.
pub(super) const LEAST_MAGNITUDE: f32 = 1e-30;

/// The scale of a block whose largest magnitude has the bits `largest`, and what values are multiplied by.
#[inline(always)]
pub(super) fn scale_and_inverse(largest: u32) -> (f32, f32) {
    let amax = f32::from_bits(largest);
    if largest >= 0x7F80_0000 {
        (f32::NAN, 0.0)
    } else if amax < LEAST_MAGNITUDE {
        (0.0, 0.0)
    } else {
        (amax / 127.0, 127.0 / amax)
    }
}

/// What a kernel needs besides the codes: bytes of `d`, `d * Σq`, `-8 Σq` and `-128 Σq`.
type Numbers = [[u8; 4]; 4];

/// Codes of one block, even columns of a part first, and its numbers.
#[inline(always)]
fn quantise_block<const BLOCK: usize>(x: &[f32; BLOCK]) -> ([u8; BLOCK], Numbers) {
    let largest = x.iter().fold(0u32, |m, v| {
        let bits = v.to_bits() & 0x7FFF_FFFF;
        if bits > m { bits } else { m }
    });
    let (scale, inverse) = scale_and_inverse(largest);
    let mut codes = [0u8; BLOCK];
    let mut sum = 0i32;
    let part = part_of(BLOCK);
    for start in (0..BLOCK).step_by(part) {
        let range = start..start + part;
        let (Some(codes), Some(x)) = (codes.get_mut(range.clone()), x.get(range)) else {
            continue;
        };
        let (evens, odds) = codes.split_at_mut(part / 2);
        for ((even, odd), x) in evens.iter_mut().zip(odds).zip(x.as_chunks::<2>().0) {
            let [first, second] = x.map(|x| (x * inverse + ROUND).to_bits() as u8);
            sum += i32::from(first as i8) + i32::from(second as i8);
            (*even, *odd) = (first, second);
        }
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

/// Writes the record of token `place` in a block's records.
#[inline(always)]
fn put_plain<const BLOCK: usize>(x: &[f32; BLOCK], place: Place, records: &mut [u8]) {
    let (codes, numbers) = quantise_block(x);
    let record = records
        .chunks_exact_mut(BLOCK + NUMBER_BYTES)
        .nth(place.token);
    if let Some((to_codes, to_numbers)) = record.and_then(|r| r.split_first_chunk_mut::<BLOCK>()) {
        *to_codes = codes;
        if let Some(to_numbers) = to_numbers.as_chunks_mut::<4>().0.first_chunk_mut::<4>() {
            *to_numbers = numbers;
        }
    }
}

for_each_isa! {
    /// Plain records of one token of a group; the last block is padded with zeros.
    fn quantise_plain<const BLOCK: usize>(x: &[f32], place: Place, records: &mut [u8]) {
        let mut records = pieces_mut(records, place.size * (BLOCK + NUMBER_BYTES));
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        for (x, records) in blocks.iter().zip(records.by_ref()) {
            put_plain(x, place, records);
        }
        if let (false, Some(records)) = (rest.is_empty(), records.next()) {
            let mut padded = [0.0; BLOCK];
            padded.iter_mut().zip(rest).for_each(|(p, &x)| *p = x);
            put_plain(&padded, place, records);
        }
    }
}
