//! Linear maps of 8-bit weights with one scale a row, and 8-bit activations with one scale a token or one for all: what
//! ONNX Runtime's dynamic quantiser makes, and how encoders read weights of 8 bits.
//!
//! ```text
//! dot = Σ a * w                                      a: 0..=255, w: -128..=127; exact, 32-bit
//! sum = dot - zero_a * (Σw - columns * zero_w) - zero_w * Σa
//! y   = sum * (scale_a * scale_w) + bias
//! ```
//!
//! The sums are whole numbers, so every kernel gives the same bits; the rest is the same few float operations. A kernel
//! computes the dots of a panel: sixteen tokens by two tiles of sixteen rows. Packed weights are tiles of sixteen rows:
//! for each four columns, those of each row in turn (64 bytes), then scale, `Σw - columns * zero_w` and `zero_w` of each row.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

pub use activations::Ranges;

use crate::vector::for_each_isa;
use crate::{Error, Isa, MatrixMut, Operand};
use activations::{TOKEN_BYTES, prepare};
use core::ops::Range;

/// Rows of a tile.
const ROW_TILE: usize = 16;
/// Tokens of a panel.
const TOKENS: usize = 16;
/// Columns are padded to a multiple of this, with zeros.
const COLUMN_STEP: usize = 64;
/// Bytes of a tile's numbers: three for each row.
const NUMBER_BYTES: usize = 3 * 4 * ROW_TILE;
/// The most columns whose sums surely fit 32 bits.
const MAX_COLUMNS: usize = 1 << 15;

/// The dots of up to sixteen tokens by two tiles of rows.
type Panel = [[[i32; ROW_TILE]; 2]; TOKENS];

/// What a kernel's function multiplies.
struct Dots {
    /// One tile, or two that lie `tile_bytes` apart.
    weights: *const u8,
    tiles: usize,
    tile_bytes: usize,
    /// The first token's codes; the next one's are `stride` bytes on. Sixteen tokens can be read.
    activations: *const u8,
    stride: usize,
    tokens: usize,
    /// A multiple of [`COLUMN_STEP`].
    columns: usize,
}

/// Fills the tokens and tiles of a panel that are asked for; the rest of it may be anything.
///
/// # Safety
/// The pointers must be good for the numbers given, and the CPU must have the instruction set the function is for.
type DotsFn = unsafe fn(&Dots, &mut Panel);

/// One instruction set's kernel.
struct Implementation {
    name: &'static str,
    dots: DotsFn,
    /// What must happen on a thread before and after a run of `dots`.
    begin: unsafe fn(),
    end: unsafe fn(),
}

/// For instruction sets that need no preparation.
///
/// # Safety
/// None is needed.
unsafe fn nothing() {}

/// The kernel for 8-bit weights by rows on one instruction set.
#[derive(Clone, Copy)]
pub struct Int8Kernel {
    isa: Isa,
    implementation: &'static Implementation,
}

impl core::fmt::Debug for Int8Kernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Int8Kernel").field(&self.name()).finish()
    }
}

impl Int8Kernel {
    /// The fastest kernel on `isa`. With AVX-512 that may be AMX, where the CPU and the operating system have it.
    pub fn select(isa: Isa) -> Int8Kernel {
        #[cfg(target_arch = "x86_64")]
        if isa.kind() == crate::IsaKind::Avx512Vnni && amx::available() {
            return Int8Kernel {
                isa,
                implementation: &amx::IMPLEMENTATION,
            };
        }
        Int8Kernel::plain(isa)
    }

    /// The kernel of exactly this instruction set.
    fn plain(isa: Isa) -> Int8Kernel {
        let implementation = match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            crate::IsaKind::Avx2 => &avx2::IMPLEMENTATION,
            #[cfg(target_arch = "x86_64")]
            crate::IsaKind::Avx512Vnni => &avx512::IMPLEMENTATION,
            #[cfg(target_arch = "aarch64")]
            crate::IsaKind::Neon => &neon::IMPLEMENTATION,
            #[cfg(target_arch = "aarch64")]
            crate::IsaKind::NeonDotprod | crate::IsaKind::NeonI8mm => &dotprod::IMPLEMENTATION,
            _ => &scalar::IMPLEMENTATION,
        };
        Int8Kernel {
            isa,
            implementation,
        }
    }

    /// A name for reports, such as `i8-avx512-vnni`.
    pub fn name(&self) -> &'static str {
        self.implementation.name
    }

    /// Row ranges start at multiples of this, and end at one or at the last row.
    pub const fn row_tile(&self) -> usize {
        ROW_TILE
    }

    /// Bytes of packed weights `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for no columns, [`Error::Overflow`] for more than 32768, or sizes that don't fit.
    pub fn packed_bytes(&self, rows: usize, columns: usize) -> Result<usize, Error> {
        tile_bytes(columns)?
            .checked_mul(rows.div_ceil(ROW_TILE))
            .ok_or(Error::Overflow)
    }

    /// Packs one row: `weight = scale * (code - zero)`. The rows that pad the last tile must be zero bytes.
    ///
    /// # Errors
    /// [`Error::Length`] when `packed` isn't that of `[rows, columns]` with as many columns as codes, [`Error::RowRange`],
    /// [`Error::Shape`] for a zero point that is no code.
    pub fn pack_row(
        &self,
        row: usize,
        rows: usize,
        codes: &[i8],
        scale: f32,
        zero: i32,
        packed: &mut [u8],
    ) -> Result<(), Error> {
        let columns = codes.len();
        if packed.len() != self.packed_bytes(rows, columns)? {
            return Err(Error::Length(Operand::Packed));
        }
        if row >= rows {
            return Err(Error::RowRange);
        }
        if !(-128..=127).contains(&zero) {
            return Err(Error::Shape);
        }
        let bytes = tile_bytes(columns)?;
        let tile = packed
            .chunks_exact_mut(bytes)
            .nth(row / ROW_TILE)
            .ok_or(Error::RowRange)?;
        let (groups, numbers) = tile.split_at_mut(bytes - NUMBER_BYTES);
        let lane = row % ROW_TILE;
        for (group, codes) in groups.chunks_exact_mut(4 * ROW_TILE).zip(codes.chunks(4)) {
            let place = group.iter_mut().skip(lane * 4).take(4);
            place.zip(codes).for_each(|(to, &code)| *to = code as u8);
        }
        let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
        // At most 2¹⁵ columns of at most 2⁸.
        let sum = sum - zero * columns as i32;
        let values = [scale.to_ne_bytes(), sum.to_ne_bytes(), zero.to_ne_bytes()];
        for (numbers, value) in numbers.chunks_exact_mut(4 * ROW_TILE).zip(values) {
            let place = numbers.iter_mut().skip(lane * 4).take(4);
            place.zip(value).for_each(|(to, byte)| *to = byte);
        }
        Ok(())
    }

    /// Bytes of prepared activations for `[tokens, columns]`.
    ///
    /// # Errors
    /// As [`Int8Kernel::packed_bytes`].
    pub fn activation_bytes(&self, tokens: usize, columns: usize) -> Result<usize, Error> {
        let columns = padded(columns)?;
        let codes = tokens.checked_next_multiple_of(TOKENS);
        codes
            .and_then(|codes| codes.checked_mul(columns + TOKEN_BYTES))
            .ok_or(Error::Overflow)
    }

    /// Quantises activations `x` `[tokens, columns]` for [`Int8Kernel::multiply`]. Uses the first
    /// [`Int8Kernel::activation_bytes`] of `dst`.
    ///
    /// # Errors
    /// [`Error::Length`] when `x` disagrees with the shape or `dst` is too short; as [`Int8Kernel::packed_bytes`].
    pub fn prepare(
        &self,
        x: &[f32],
        tokens: usize,
        columns: usize,
        ranges: Ranges,
        dst: &mut [u8],
    ) -> Result<(), Error> {
        if tokens.checked_mul(columns) != Some(x.len()) {
            return Err(Error::Length(Operand::Input));
        }
        let dst = dst
            .get_mut(..self.activation_bytes(tokens, columns)?)
            .ok_or(Error::Length(Operand::Activations))?;
        let numbers = tokens.next_multiple_of(TOKENS) * padded(columns)?;
        let (codes, numbers) = dst
            .split_at_mut_checked(numbers)
            .ok_or(Error::Length(Operand::Activations))?;
        prepare(
            self.isa,
            x,
            columns,
            padded(columns)?,
            ranges,
            codes,
            numbers,
        );
        Ok(())
    }

    /// `out[token, row - range.start] = W[row] · x[token] + bias[row]` for the rows of `range`.
    ///
    /// `packed` is the whole packed matrix `[rows, columns]`, `activations` what [`Int8Kernel::prepare`] wrote for
    /// `[tokens, columns]`, `bias` `[rows]` if there is one, `out` a view `[tokens, range.len()]`.
    ///
    /// # Errors
    /// [`Error::RowRange`]; [`Error::Length`] when a buffer or the view disagrees with the shapes.
    #[allow(
        clippy::too_many_arguments,
        reason = "every buffer is the caller's, as without a heap it must be"
    )]
    pub fn multiply(
        &self,
        packed: &[u8],
        rows: usize,
        columns: usize,
        activations: &[u8],
        tokens: usize,
        range: Range<usize>,
        bias: Option<&[f32]>,
        mut out: MatrixMut<'_>,
    ) -> Result<(), Error> {
        let bytes = tile_bytes(columns)?;
        if packed.len() != self.packed_bytes(rows, columns)? {
            return Err(Error::Length(Operand::Packed));
        }
        let needed = self.activation_bytes(tokens, columns)?;
        let activations = activations
            .get(..needed)
            .ok_or(Error::Length(Operand::Activations))?;
        let on_edge = |row: usize| row.is_multiple_of(ROW_TILE) || row == rows;
        if range.start > range.end
            || range.end > rows
            || !on_edge(range.start)
            || !on_edge(range.end)
        {
            return Err(Error::RowRange);
        }
        if bias.is_some_and(|bias| bias.len() != rows) {
            return Err(Error::Length(Operand::Parameters));
        }
        if out.rows() != tokens || out.columns() != range.len() {
            return Err(Error::Length(Operand::Output));
        }
        let stride = padded(columns)?;
        let numbers = activations
            .get(tokens.next_multiple_of(TOKENS) * stride..)
            .ok_or(Error::Length(Operand::Activations))?;
        let mut panel: Panel = [[[0; ROW_TILE]; 2]; TOKENS];
        // SAFETY: the `Isa` proves that the CPU has the instructions, `select` asked for AMX.
        unsafe { (self.implementation.begin)() };
        for row in range.clone().step_by(2 * ROW_TILE) {
            let width = (range.end - row).min(2 * ROW_TILE);
            let start = row / ROW_TILE * bytes;
            for first in (0..tokens).step_by(TOKENS) {
                let count = (tokens - first).min(TOKENS);
                let dots = Dots {
                    weights: packed.as_ptr().wrapping_add(start),
                    tiles: width.div_ceil(ROW_TILE),
                    tile_bytes: bytes,
                    activations: activations.as_ptr().wrapping_add(first * stride),
                    stride,
                    tokens: count,
                    columns: stride,
                };
                // SAFETY: `packed` holds the tiles of the rows up to `range.end`, the activations a multiple of sixteen
                // tokens: lengths were checked above. The rest as above.
                unsafe { (self.implementation.dots)(&dots, &mut panel) };
                for tile in 0..dots.tiles {
                    let end = start + (tile + 1) * bytes;
                    let params = packed.get(end - NUMBER_BYTES..end).unwrap_or_default();
                    let column = row + tile * ROW_TILE;
                    let bias = bias.and_then(|bias| bias.get(column..)).unwrap_or_default();
                    let tokens = numbers.chunks_exact(TOKEN_BYTES).skip(first);
                    for (index, (sums, number)) in panel.iter().take(count).zip(tokens).enumerate()
                    {
                        let Some(sums) = sums.get(tile) else { continue };
                        let to = out.row_mut(first + index).unwrap_or_default();
                        let to = to.get_mut(column - range.start..).unwrap_or_default();
                        scale(self.isa, sums, params, number, bias, to);
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { (self.implementation.end)() };
        Ok(())
    }
}

fn padded(columns: usize) -> Result<usize, Error> {
    match columns {
        0 => Err(Error::Shape),
        1..=MAX_COLUMNS => Ok(columns.next_multiple_of(COLUMN_STEP)),
        _ => Err(Error::Overflow),
    }
}

fn tile_bytes(columns: usize) -> Result<usize, Error> {
    Ok(padded(columns)? * ROW_TILE + NUMBER_BYTES)
}

for_each_isa! {
    /// Writes the results of one token and tile, as many as `out` has room for.
    fn scale(dots: &[i32; ROW_TILE], params: &[u8], token: &[u8], bias: &[f32], out: &mut [f32]) {
        let four = |bytes: &[u8], at: usize| {
            bytes.get(at * 4..).and_then(|bytes| bytes.first_chunk::<4>()).copied().unwrap_or_default()
        };
        let scale_a = f32::from_ne_bytes(four(token, 0));
        let zero_a = i32::from_ne_bytes(four(token, 1));
        let sum_a = i32::from_ne_bytes(four(token, 2));
        let mut results = [0f32; ROW_TILE];
        if let Some(params) = params.first_chunk::<NUMBER_BYTES>() {
            let (scales, rest) = params.split_at(4 * ROW_TILE);
            let (sums, zeros) = rest.split_at(4 * ROW_TILE);
            let scales = scales.as_chunks::<4>().0.iter().zip(sums.as_chunks::<4>().0);
            let params = scales.zip(zeros.as_chunks::<4>().0);
            for ((result, &dot), ((scale, sum), zero)) in results.iter_mut().zip(dots).zip(params) {
                let sum = dot
                    .wrapping_sub(zero_a.wrapping_mul(i32::from_ne_bytes(*sum)))
                    .wrapping_sub(sum_a.wrapping_mul(i32::from_ne_bytes(*zero)));
                *result = sum as f32 * (scale_a * f32::from_ne_bytes(*scale));
            }
        }
        match (bias.first_chunk::<ROW_TILE>(), out.first_chunk_mut::<ROW_TILE>()) {
            (Some(bias), Some(out)) => {
                for ((y, result), bias) in out.iter_mut().zip(results).zip(bias) {
                    *y = result + bias;
                }
            }
            _ if bias.is_empty() => out.iter_mut().zip(results).for_each(|(y, r)| *y = r),
            _ => out.iter_mut().zip(results).zip(bias).for_each(|((y, r), b)| *y = r + b),
        }
    }
}

#[cfg(test)]
mod tests;
