//! Made-up weights and activations for tests, in memory that the caller lends: the tests of this crate use them, and the program
//! that tests the kernels on boards without an operating system (`benches/bare-metal`).

use furlong_core::attention::{
    AttentionShape, Q8_POSITIONS, Q8Groups, Visible, attend_q8, q8_columns, q8_scales, store_key,
    store_value,
};
use furlong_core::{
    BlockWeights, Error, Floats, Isa, LinearKernel, MatrixMut, WeightFormat, Weights, ZeroPoints,
    activation, norm, softmax,
};

/// Bytes that are the same on every machine.
pub fn bytes(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    core::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

/// Numbers from -2.55 to 2.55.
pub fn floats(seed: u64) -> impl Iterator<Item = f32> {
    bytes(seed).map(|byte| (f32::from(byte) - 127.5) / 50.0)
}

/// A product of block-quantised weights `[rows, columns]` and activations `[tokens, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub bits: u8,
    pub block: usize,
    pub offset: bool,
    pub rows: usize,
    pub columns: usize,
    pub tokens: usize,
    pub seed: u64,
}

/// The memory of a product that has been made ready.
pub struct Ready<'a> {
    pub kernel: LinearKernel,
    pub packed: &'a [u8],
    pub x: &'a [f32],
    pub activations: &'a mut [u8],
    pub out: &'a mut [f32],
}

/// Cuts pieces off lent memory.
struct Lent<'a>(&'a mut [f32]);

impl<'a> Lent<'a> {
    fn floats(&mut self, count: usize) -> Option<&'a mut [f32]> {
        let (piece, rest) = core::mem::take(&mut self.0).split_at_mut_checked(count)?;
        self.0 = rest;
        Some(piece)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a mut [u8]> {
        let piece = self.floats(count.div_ceil(4))?;
        // SAFETY: the same memory, and any bits are bytes and floats.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(piece.as_mut_ptr().cast::<u8>(), piece.len() * 4)
        };
        bytes.get_mut(..count)
    }

    fn codes(&mut self, count: usize) -> Option<&'a mut [i8]> {
        let bytes = self.bytes(count)?;
        // SAFETY: the same memory, and any bits are signed bytes.
        Some(unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) })
    }
}

impl Product {
    /// What kernels are selected for.
    pub fn format(&self) -> WeightFormat {
        WeightFormat::Block {
            bits: self.bits,
            block: self.block.min(128) as u8,
            offset: self.offset,
        }
    }

    /// Packs the weights, a tile of rows at a time, and makes the activations. `None` when the memory does not suffice.
    pub fn ready<'a>(&self, isa: Isa, memory: &'a mut [f32]) -> Option<Ready<'a>> {
        let kernel = LinearKernel::select(self.format(), isa).ok()?;
        let mut lent = Lent(memory);
        let packed = lent.bytes(kernel.packed_bytes(self.rows, self.columns).ok()?)?;
        let x = lent.floats(self.tokens * self.columns)?;
        let numbers = floats(self.seed >> 9);
        x.iter_mut().zip(numbers).for_each(|(x, value)| *x = value);
        let activations = lent.bytes(kernel.activation_bytes(self.tokens, self.columns).ok()?)?;
        let out = lent.floats(self.tokens * self.rows)?;
        out.fill(f32::NAN);

        let blocks = self.columns.div_ceil(self.block);
        let rows = kernel.row_tile();
        let bits = usize::from(self.bits);
        let codes = lent.bytes(rows * blocks * self.block * bits / 8)?;
        let scales = lent.floats(rows * blocks)?;
        let points = lent.bytes(rows * (blocks * bits).div_ceil(8))?;
        let (mut all_codes, mut all_scales) = (bytes(self.seed), floats(self.seed + 1));
        let mut all_points = bytes(self.seed + 2);
        for first in (0..self.rows).step_by(rows) {
            let count = rows.min(self.rows - first);
            let codes = codes.get_mut(..count * blocks * self.block * bits / 8)?;
            let scales = scales.get_mut(..count * blocks)?;
            let points = points.get_mut(..count * (blocks * bits).div_ceil(8))?;
            codes.fill_with(|| all_codes.next().unwrap_or(0));
            scales.fill_with(|| all_scales.next().unwrap_or(0.0) * 1e-3);
            points.fill_with(|| all_points.next().unwrap_or(0));
            let zero_points = match self.offset {
                true => ZeroPoints::Packed(points),
                false => ZeroPoints::Middle,
            };
            let scales = Floats::F32(scales);
            let (bits, block) = (self.bits, self.block);
            let weights: Weights<'_> =
                BlockWeights::new(bits, block, count, self.columns, codes, scales, zero_points)
                    .ok()?
                    .into();
            let place = kernel
                .layout()
                .packed_range(self.rows, self.columns, first..first + count)
                .ok()?;
            // A tile alone packs to the same bytes.
            kernel
                .pack(&weights, 0..count, packed.get_mut(place)?)
                .ok()?;
        }
        Some(Ready {
            kernel,
            packed,
            x,
            activations,
            out,
        })
    }
}

impl Ready<'_> {
    /// Quantises the activations and multiplies.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn multiply(&mut self, product: &Product) -> Result<(), Error> {
        let Product {
            rows,
            columns,
            tokens,
            ..
        } = *product;
        let kernel = self.kernel;
        kernel.prepare(self.x, tokens, columns, self.activations)?;
        let out = MatrixMut::new(self.out, tokens, rows)?;
        let activations = &*self.activations;
        kernel.multiply(
            self.packed,
            rows,
            columns,
            activations,
            tokens,
            0..rows,
            out,
        )
    }
}

/// One number for the results of small products of all block formats and of the steps between them, for memory of 12 KiB: all
/// machines must find [`DIGEST`].
pub fn digest(isa: Isa, memory: &mut [f32]) -> Option<u64> {
    let mut hash = Hash(0xCBF2_9CE4_8422_2325);
    for (index, format) in WeightFormat::ALL.into_iter().enumerate() {
        let WeightFormat::Block {
            bits,
            block,
            offset,
        } = format
        else {
            continue;
        };
        let product = Product {
            bits,
            block: usize::from(block),
            offset,
            rows: 18,
            columns: 70,
            tokens: 3,
            seed: index as u64 * 1000,
        };
        let mut ready = product.ready(isa, memory)?;
        ready.multiply(&product).ok()?;
        hash.add(ready.out);
    }
    steps(isa, memory, &mut hash)?;
    cached(isa, memory, &mut hash)?;
    Some(hash.0)
}

/// Softmax, gates and norms of every length around a number of lanes; with some numbers far below the largest, where `e^x` is 0, and
/// an infinity.
fn steps(isa: Isa, memory: &mut [f32], hash: &mut Hash) -> Option<()> {
    const LENGTHS: [usize; 6] = [1, 15, 16, 17, 33, 70];
    for length in LENGTHS {
        let mut lent = Lent(memory);
        let (x, up) = (lent.floats(length)?, lent.floats(length)?);
        let out = lent.floats(length)?;
        let mut numbers = floats(length as u64);
        x.fill_with(|| numbers.next().unwrap_or(0.0) * 30.0);
        up.fill_with(|| numbers.next().unwrap_or(0.0));
        activation::silu_mul(isa, x, up, MatrixMut::new(out, 1, length).ok()?).ok()?;
        hash.add(out);
        norm::rms_norm(isa, x, up, 1e-5, out).ok()?;
        hash.add(out);
        if let [_, second, ..] = x {
            *second = f32::NEG_INFINITY;
        }
        softmax::softmax(isa, x);
        hash.add(x);
    }
    Some(())
}

/// Attention over an 8-bit cache whose last groups and columns are not whole.
fn cached(isa: Isa, memory: &mut [f32], hash: &mut Hash) -> Option<()> {
    const HEAD: usize = 40;
    const POSITIONS: usize = 21;
    let groups = POSITIONS.div_ceil(Q8_POSITIONS);
    let (group_codes, group_scales) = (
        Q8_POSITIONS * q8_columns(HEAD),
        Q8_POSITIONS * q8_scales(HEAD),
    );
    let mut lent = Lent(memory);
    let (key_codes, key_scales) = (
        lent.codes(groups * group_codes)?,
        lent.floats(groups * group_scales)?,
    );
    let (value_codes, value_scales) = (
        lent.codes(groups * group_codes)?,
        lent.floats(groups * group_scales)?,
    );
    let (queries, out) = (lent.floats(2 * HEAD)?, lent.floats(2 * HEAD)?);
    let x = lent.floats(HEAD)?;
    for codes in [&mut *key_codes, &mut *value_codes] {
        codes.fill(0);
    }
    for scales in [&mut *key_scales, &mut *value_scales] {
        scales.fill(0.0);
    }
    for position in 0..POSITIONS {
        let mut numbers = floats(position as u64);
        x.fill_with(|| numbers.next().unwrap_or(0.0));
        let (group, place) = (position / Q8_POSITIONS, position % Q8_POSITIONS);
        let codes = group * group_codes..(group + 1) * group_codes;
        let scales = group * group_scales..(group + 1) * group_scales;
        let keys = key_codes.get_mut(codes.clone())?;
        store_key(isa, x, place, keys, key_scales.get_mut(scales.clone())?).ok()?;
        let values = value_codes.get_mut(codes)?;
        store_value(isa, x, place, values, value_scales.get_mut(scales)?).ok()?;
    }
    let mut numbers = floats(77);
    queries.fill_with(|| numbers.next().unwrap_or(0.0));
    let shape = AttentionShape {
        tokens: 1,
        group: 2,
        head_dim: HEAD,
        value_dim: HEAD,
        query_stride: 2 * HEAD,
        scale: 0.2,
        softcap: None,
        visible: Visible::All,
    };
    let (keys, values) = (
        Q8Groups {
            codes: key_codes,
            scales: key_scales,
        },
        Q8Groups {
            codes: value_codes,
            scales: value_scales,
        },
    );
    let results = MatrixMut::new(&mut *out, 1, 2 * HEAD).ok()?;
    attend_q8(isa, &shape, queries, keys, values, POSITIONS, results).ok()?;
    hash.add(out);
    Some(())
}

/// FNV-1a over the bits of numbers, a number at a time.
struct Hash(u64);

impl Hash {
    fn add(&mut self, numbers: &[f32]) {
        for number in numbers {
            self.0 = (self.0 ^ u64::from(number.to_bits())).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

/// What [`digest`] is on every machine.
pub const DIGEST: u64 = 6_800_030_246_046_537_824;
