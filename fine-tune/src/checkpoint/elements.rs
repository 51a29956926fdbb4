//! How weights are stored, and how they become f32.
//!
//! The block layouts are ggml's (`ggml-common.h`); the tests compare each with the `gguf` Python package.

use half::{bf16, f16};

/// Storage format of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// Truncated 32-bit floats.
    Bf16,
    /// 32 values: scale, 4-bit codes around 8.
    Q4_0,
    /// 32 values: scale, minimum, 4-bit codes.
    Q4_1,
    /// 32 values: scale, 5-bit codes around 16.
    Q5_0,
    /// 32 values: scale, minimum, 5-bit codes.
    Q5_1,
    /// 32 values: scale, signed 8-bit codes.
    Q8_0,
    /// 256 values: 4-bit codes, 6-bit scales and minima for each 32.
    Q4K,
    /// 256 values: 5-bit codes, 6-bit scales and minima for each 32.
    Q5K,
    /// 256 values: 6-bit codes, 8-bit scales for each 16.
    Q6K,
}

impl Elements {
    /// The format that GGUF numbers `code`, if it is one of ours.
    pub fn from_ggml(code: u32) -> Option<Elements> {
        Some(match code {
            0 => Elements::F32,
            1 => Elements::F16,
            2 => Elements::Q4_0,
            3 => Elements::Q4_1,
            6 => Elements::Q5_0,
            7 => Elements::Q5_1,
            8 => Elements::Q8_0,
            12 => Elements::Q4K,
            13 => Elements::Q5K,
            14 => Elements::Q6K,
            30 => Elements::Bf16,
            _ => return None,
        })
    }

    /// Elements that are stored together.
    pub fn block_len(self) -> usize {
        match self {
            Elements::F32 | Elements::F16 | Elements::Bf16 => 1,
            Elements::Q4_0 | Elements::Q4_1 | Elements::Q5_0 | Elements::Q5_1 | Elements::Q8_0 => {
                32
            }
            Elements::Q4K | Elements::Q5K | Elements::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Elements::F32 => 4,
            Elements::F16 | Elements::Bf16 => 2,
            Elements::Q4_0 => 18,
            Elements::Q4_1 => 20,
            Elements::Q5_0 => 22,
            Elements::Q5_1 => 24,
            Elements::Q8_0 => 34,
            Elements::Q4K => 144,
            Elements::Q5K => 176,
            Elements::Q6K => 210,
        }
    }

    /// Bytes of a tensor of `shape`; `None` when that overflows or a row is not a whole number of blocks.
    pub fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        let count = shape
            .iter()
            .try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
        let row = shape.last().copied().unwrap_or(1);
        if row % self.block_len() != 0 {
            return None;
        }
        (count / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The values stored in `bytes`, as f32. Bytes that don't fill a block are ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let count = bytes.len() / self.block_bytes() * self.block_len();
        let mut out = Vec::with_capacity(count);
        match self {
            Elements::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Elements::F16 => {
                out.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| f16::from_le_bytes(*b).to_f32()),
                );
            }
            Elements::Bf16 => {
                out.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| bf16::from_le_bytes(*b).to_f32()),
                );
            }
            Elements::Q4_0 => bytes.as_chunks().0.iter().for_each(|b| q4_0(b, &mut out)),
            Elements::Q4_1 => bytes.as_chunks().0.iter().for_each(|b| q4_1(b, &mut out)),
            Elements::Q5_0 => bytes.as_chunks().0.iter().for_each(|b| q5_0(b, &mut out)),
            Elements::Q5_1 => bytes.as_chunks().0.iter().for_each(|b| q5_1(b, &mut out)),
            Elements::Q8_0 => bytes.as_chunks().0.iter().for_each(|b| q8_0(b, &mut out)),
            Elements::Q4K => bytes.as_chunks().0.iter().for_each(|b| q4k(b, &mut out)),
            Elements::Q5K => bytes.as_chunks().0.iter().for_each(|b| q5k(b, &mut out)),
            Elements::Q6K => bytes.as_chunks().0.iter().for_each(|b| q6k(b, &mut out)),
        }
        out
    }
}

/// Bytes `at` and `at + 1` as a half float.
fn half<const N: usize>(block: &[u8; N], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8; 18], out: &mut Vec<f32>) {
    let scale = half(block, 0);
    let codes = &block[2..];
    out.extend(codes.iter().map(|b| scale * (f32::from(b & 15) - 8.0)));
    out.extend(codes.iter().map(|b| scale * (f32::from(b >> 4) - 8.0)));
}

fn q4_1(block: &[u8; 20], out: &mut Vec<f32>) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let codes = &block[4..];
    out.extend(codes.iter().map(|b| scale * f32::from(b & 15) + minimum));
    out.extend(codes.iter().map(|b| scale * f32::from(b >> 4) + minimum));
}

/// The 32 codes of a 5-bit block: fifth bits in `high`, the others two to a byte in `low`.
fn five_bits(high: &[u8], low: &[u8]) -> impl Iterator<Item = u8> {
    let high = high
        .iter()
        .rev()
        .fold(0u32, |bits, b| bits << 8 | u32::from(*b));
    let low = low.iter().map(|b| b & 15).chain(low.iter().map(|b| b >> 4));
    low.enumerate()
        .map(move |(i, code)| code | ((high >> i & 1) as u8) << 4)
}

fn q5_0(block: &[u8; 22], out: &mut Vec<f32>) {
    let scale = half(block, 0);
    out.extend(five_bits(&block[2..6], &block[6..]).map(|code| scale * (f32::from(code) - 16.0)));
}

fn q5_1(block: &[u8; 24], out: &mut Vec<f32>) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    out.extend(five_bits(&block[4..8], &block[8..]).map(|code| scale * f32::from(code) + minimum));
}

fn q8_0(block: &[u8; 34], out: &mut Vec<f32>) {
    let scale = half(block, 0);
    out.extend(block[2..].iter().map(|b| scale * f32::from(*b as i8)));
}

/// The 6-bit scale and minimum of the `part`-th 32 values (`part` below 8), from the 12 bytes at 4.
fn scale_and_minimum<const N: usize>(block: &[u8; N], part: usize) -> (f32, f32) {
    let at = |i: usize| block[4 + i];
    let (scale, minimum) = if part < 4 {
        (at(part) & 63, at(part + 4) & 63)
    } else {
        (
            at(part + 4) & 15 | at(part - 4) >> 6 << 4,
            at(part + 4) >> 4 | at(part) >> 6 << 4,
        )
    };
    (
        half(block, 0) * f32::from(scale),
        half(block, 2) * f32::from(minimum),
    )
}

fn q4k(block: &[u8; 144], out: &mut Vec<f32>) {
    for part in 0..8 {
        let (scale, minimum) = scale_and_minimum(block, part);
        let codes = &block[16 + part / 2 * 32..][..32];
        let shift = part % 2 * 4;
        out.extend(
            codes
                .iter()
                .map(|b| scale * f32::from(b >> shift & 15) - minimum),
        );
    }
}

fn q5k(block: &[u8; 176], out: &mut Vec<f32>) {
    for part in 0..8 {
        let (scale, minimum) = scale_and_minimum(block, part);
        let low = &block[48 + part / 2 * 32..][..32];
        let shift = part % 2 * 4;
        out.extend(low.iter().zip(&block[16..48]).map(|(low, high)| {
            let code = low >> shift & 15 | (high >> part & 1) << 4;
            scale * f32::from(code) - minimum
        }));
    }
}

fn q6k(block: &[u8; 210], out: &mut Vec<f32>) {
    let scale = half(block, 208);
    for part in 0..8 {
        // Two halves of 128 values; in each, four runs of 32 that share their bytes.
        let (side, run) = (part / 4, part % 4);
        let low = &block[side * 64 + run % 2 * 32..][..32];
        let high = &block[128 + side * 32..][..32];
        for i in 0..32 {
            let code = low[i] >> (run / 2 * 4) & 15 | (high[i] >> (run * 2) & 3) << 4;
            let local = block[192 + side * 8 + run * 2 + i / 16] as i8;
            out.push(scale * f32::from(local) * (f32::from(code) - 32.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes and digest as in `elements_golden.py`, which printed the table below.
    fn blocks(size: usize, halves: &[usize]) -> Vec<u8> {
        let mut state = 1u64;
        let mut bytes: Vec<u8> = (0..size * 3)
            .map(|_| {
                state = (state * 1_103_515_245 + 12345) % (1 << 31);
                (state >> 16) as u8
            })
            .collect();
        for block in bytes.chunks_mut(size) {
            halves.iter().for_each(|half| block[half + 1] &= 0x3f);
        }
        bytes
    }

    fn fnv(values: &[f32]) -> u64 {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    #[test]
    fn blocks_decode_as_in_the_gguf_package() {
        let golden: [(Elements, &[usize], u64); 8] = [
            (Elements::Q4_0, &[0], 0x753e4ef340a4f236),
            (Elements::Q4_1, &[0, 2], 0x296bbb1e53f617cd),
            (Elements::Q5_0, &[0], 0xc30989ef4f266afd),
            (Elements::Q5_1, &[0, 2], 0xe149dc7ee9510543),
            (Elements::Q8_0, &[0], 0x870f7686b4dc78d6),
            (Elements::Q4K, &[0, 2], 0xe27435b60561b5d1),
            (Elements::Q5K, &[0, 2], 0x1b577ad9b4717adc),
            (Elements::Q6K, &[208], 0x3fd64c6571484cbd),
        ];
        for (elements, halves, digest) in golden {
            let values = elements.decode(&blocks(elements.block_bytes(), halves));
            assert_eq!(values.len(), 3 * elements.block_len(), "{elements:?}");
            assert_eq!(fnv(&values), digest, "{elements:?}");
        }
    }

    #[test]
    fn sizes_that_overflow_or_split_a_block_have_no_bytes() {
        assert_eq!(Elements::Q4_0.bytes_of(&[3, 64]), Some(3 * 2 * 18));
        assert_eq!(Elements::Q4_0.bytes_of(&[64, 3]), None);
        assert_eq!(Elements::F32.bytes_of(&[usize::MAX, 2]), None);
        assert_eq!(Elements::F32.bytes_of(&[usize::MAX / 2]), None);
        assert_eq!(Elements::F32.bytes_of(&[]), Some(4));
    }
}
