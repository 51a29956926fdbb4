//! Linear maps `y = W x`: the kernels that nearly all time goes into.
//!
//! A [`LinearKernel`] is selected once for a [`WeightFormat`] and an [`Isa`]. It packs weights into tiles
//! of sixteen rows, prepares activations, and multiplies any range of tiles, so that a caller's threads
//! can share both the packing and the multiplication.
//!
//! Every kernel gives the same bits. For block-quantised weights each output is
//!
//! ```text
//! acc = 0
//! for each block, in order:
//!     dot = Σ q * (code - middle)                              exact, 32-bit
//!     acc = fma(dot, d * scale, acc)                           d: scale of the activations
//!     acc = fma(d * Σq, offset, acc)                           offset = -scale * (zero_point - middle)
//! y = acc * row_multiplier                                     a power of two
//! ```
//!
//! and for dense weights `acc = fma(w, x, acc)` over the columns in order. One output row stays in one
//! vector lane, so no order is left to the instruction set.

mod activations;
#[cfg(arm_dsp)]
mod arm_dsp;
#[cfg(arm_dsp)]
mod arm_rows;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(arm_helium)]
mod helium;
#[cfg(target_arch = "aarch64")]
mod i8mm;
mod kernel;
mod layout;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod packed;
#[cfg(target_arch = "aarch64")]
mod panel;
#[cfg(arm_dsp)]
mod quantise_arm_dsp;
#[cfg(arm_helium)]
mod quantise_helium;
#[cfg(target_arch = "aarch64")]
mod quantise_neon;
mod scalar;

pub use activations::{ActivationLayout, activation_bytes};
pub use packed::PackedLayout;

use crate::{Error, Feature, Isa, MatrixMut, Operand, WeightFormat, Weights};
use activations::MAX_GROUP;
use core::ops::Range;
use kernel::{Implementation, TOGETHER, Tile};
use layout::{ROW_TILE, TileShape, tiles};

/// The kernel for one weight format on one instruction set.
#[derive(Clone, Copy)]
pub struct LinearKernel {
    format: WeightFormat,
    isa: Isa,
    implementation: &'static Implementation,
}

impl core::fmt::Debug for LinearKernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LinearKernel")
            .field("name", &self.name())
            .field("format", &self.format)
            .finish()
    }
}

/// Two kernels are equal when they pack and multiply alike.
impl PartialEq for LinearKernel {
    fn eq(&self, other: &Self) -> bool {
        self.format == other.format && self.isa == other.isa
    }
}

impl Eq for LinearKernel {}

impl LinearKernel {
    /// Packed weights and activations are fastest at addresses that are multiples of this.
    pub const ALIGN: usize = layout::TILE_ALIGN;

    /// At other addresses than multiples of this kernels refuse to work. Microcontrollers load several words at a time only from
    /// multiples of four.
    pub const LEAST_ALIGN: usize = if cfg!(arm_dsp) { 4 } else { 1 };

    /// The kernel for `format` on `isa`.
    ///
    /// # Errors
    /// [`Error::Bits`] or [`Error::BlockSize`] for a format that [`WeightFormat::ALL`] does not list, [`Error::Feature`] for one that
    /// was left out of the build.
    pub fn select(format: WeightFormat, isa: Isa) -> Result<Self, Error> {
        PackedLayout::of(format, isa.kind())?;
        Feature::of_weights(format).require()?;
        let scalar = || {
            Feature::Scalar.require()?;
            Ok::<_, Error>(scalar::implementation(format))
        };
        let implementation = match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            crate::IsaKind::Avx2 => avx2::implementation(format),
            #[cfg(target_arch = "x86_64")]
            crate::IsaKind::Avx512Vnni => avx512::implementation(format),
            #[cfg(target_arch = "aarch64")]
            crate::IsaKind::Neon => neon::implementation(format),
            #[cfg(target_arch = "aarch64")]
            crate::IsaKind::NeonDotprod => dotprod::implementation(format),
            #[cfg(target_arch = "aarch64")]
            crate::IsaKind::NeonI8mm => match format {
                // Sums of pairs over several parts don't fit the registers: `sdot` reads the same bytes.
                WeightFormat::Block { block: 33.., .. } => dotprod::implementation(format),
                _ => i8mm::implementation(format),
            },
            #[cfg(arm_dsp)]
            crate::IsaKind::ArmDsp => match format {
                // Not worth the code: their floats alone cost as much as the products.
                WeightFormat::Block { block: 16, .. } => scalar()?,
                _ => arm_dsp::implementation(format),
            },
            #[cfg(arm_helium)]
            crate::IsaKind::Helium => match format {
                WeightFormat::Block { block: 16, .. } => scalar()?,
                _ => helium::implementation(format),
            },
            _ => scalar()?,
        };
        Ok(LinearKernel {
            format,
            isa,
            implementation,
        })
    }

    /// A name for reports, such as `q4-avx512-vnni`.
    pub fn name(&self) -> &'static str {
        self.implementation.name
    }

    /// The format this kernel packs.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// The instruction set this kernel runs on.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Row ranges start at multiples of this, and end at one or at the last row.
    pub const fn row_tile(&self) -> usize {
        ROW_TILE
    }

    /// How its packed weights lie.
    pub fn layout(&self) -> PackedLayout {
        PackedLayout::new(self.format, self.implementation.interleave)
    }

    /// As [`PackedLayout::packed_bytes`].
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn packed_bytes(&self, rows: usize, columns: usize) -> Result<usize, Error> {
        self.layout().packed_bytes(rows, columns)
    }

    /// As [`PackedLayout::pack`].
    ///
    /// # Errors
    /// As [`PackedLayout::pack`].
    pub fn pack(
        &self,
        weights: &Weights<'_>,
        range: Range<usize>,
        dst: &mut [u8],
    ) -> Result<(), Error> {
        self.layout().pack(weights, range, dst)
    }

    /// Threads may prepare different tokens of one buffer, if each starts at a multiple of this: token `t` at byte
    /// [`LinearKernel::activation_bytes`]`(t, columns)`.
    pub fn token_group(&self) -> usize {
        let groups = self.implementation.activations.groups;
        groups.first().copied().unwrap_or(1)
    }

    /// How this kernel wants its activations. Where two kernels' layouts are equal, one prepared buffer serves both.
    pub fn activation_layout(&self) -> ActivationLayout {
        self.implementation.activations
    }

    /// Bytes of prepared activations for `[tokens, columns]`.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn activation_bytes(&self, tokens: usize, columns: usize) -> Result<usize, Error> {
        Ok(self
            .implementation
            .activations
            .shape(tokens, columns)?
            .bytes)
    }

    /// Prepares activations `x` `[tokens, columns]` for [`LinearKernel::multiply`]: quantises them, or copies
    /// them for dense weights. Uses the first [`LinearKernel::activation_bytes`] of `dst`.
    ///
    /// # Errors
    /// [`Error::Shape`] for no columns, [`Error::Length`] when `x` disagrees with the shape or `dst` is too short,
    /// [`Error::Alignment`] when it starts at no multiple of [`LinearKernel::LEAST_ALIGN`].
    pub fn prepare(
        &self,
        x: &[f32],
        tokens: usize,
        columns: usize,
        dst: &mut [u8],
    ) -> Result<(), Error> {
        if columns == 0 {
            return Err(Error::Shape);
        }
        if tokens.checked_mul(columns) != Some(x.len()) {
            return Err(Error::Length(Operand::Input));
        }
        let shape = self.implementation.activations.shape(tokens, columns)?;
        let dst = dst
            .get_mut(..shape.bytes)
            .ok_or(Error::Length(Operand::Activations))?;
        aligned(dst, Operand::Activations)?;
        self.implementation
            .activations
            .prepare(self.isa, x, [tokens, columns], shape, dst);
        Ok(())
    }

    /// Multiplies the rows of `range` by all tokens: `out[token, row - range.start] = Σ W[row, column] x[token, column]`.
    ///
    /// `packed` is the whole packed matrix `[rows, columns]`, `activations` what [`LinearKernel::prepare`] wrote for
    /// `[tokens, columns]`, `out` a view `[tokens, range.len()]`: threads split a whole output by columns.
    ///
    /// # Errors
    /// [`Error::RowRange`]; [`Error::Length`] when a buffer or the view disagrees with the shapes; [`Error::Alignment`] when one
    /// starts at no multiple of [`LinearKernel::LEAST_ALIGN`].
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
        mut out: MatrixMut<'_>,
    ) -> Result<(), Error> {
        if columns == 0 {
            return Err(Error::Shape);
        }
        let shape = TileShape::inlined(self.format, columns)?;
        if packed.len() != shape.all_bytes(rows)? {
            return Err(Error::Length(Operand::Packed));
        }
        let layout = &self.implementation.activations;
        let inputs = layout.shape_of_blocks(tokens, shape.blocks)?;
        if activations.len() < inputs.bytes {
            return Err(Error::Length(Operand::Activations));
        }
        aligned(packed, Operand::Packed)?;
        aligned(activations, Operand::Activations)?;
        let tile_range = tile_range(rows, range.clone())?;
        if out.rows() != tokens || out.columns() != range.len() {
            return Err(Error::Length(Operand::Output));
        }
        let whole = range.len() / ROW_TILE;
        let call = Tile {
            weights: packed.as_ptr().wrapping_add(tile_range.start * shape.bytes),
            shape: &shape,
            activations: activations.as_ptr(),
            out: out.as_mut_ptr(),
            out_stride: out.stride(),
            tokens,
            tiles: whole,
        };
        let mut done = 0;
        // SAFETY: `packed` has `tile_range.end` tiles, `out` has `tokens` rows of `range.len()` columns, the activations have `tokens`
        // tokens: lengths were checked above. The `Isa` in `self` proves that the CPU has the instructions.
        unsafe {
            if tokens == 1
                && whole > 0
                && self.implementation.takes_runs
                && let Some(function) = self.implementation.tile_functions.last()
            {
                function(&call);
                done = whole * ROW_TILE;
            }
            if done < range.len() {
                self.tile_by_tile(&call, done..range.len(), inputs.token_bytes);
            }
        }
        Ok(())
    }

    /// Multiplies what gives some columns of the output, from a multiple of [`ROW_TILE`] on, a tile by all groups of tokens at a time.
    /// A function of its own on microcontrollers, whose single tokens hardly need it.
    ///
    /// # Safety
    /// As [`kernel::TileFn`] for all of them; `all` is for the first column and all tokens.
    #[cfg_attr(arm_dsp, inline(never))]
    unsafe fn tile_by_tile(&self, all: &Tile<'_>, columns: Range<usize>, token_bytes: usize) {
        let mut call = Tile { tiles: 1, ..*all };
        let groups = self.implementation.activations.groups;
        let mut column = columns.start;
        while column < columns.end {
            let width = ROW_TILE.min(columns.end - column);
            let tile = column / ROW_TILE * all.shape.bytes;
            call.weights = all.weights.wrapping_add(tile);
            let mut first = 0;
            if let Some(function) = self.implementation.all_groups
                && all.tokens >= TOGETHER
                && width == ROW_TILE
            {
                first = all.tokens / TOGETHER * TOGETHER;
                // SAFETY: the caller's promise.
                unsafe {
                    call.tokens = first;
                    call.activations = all.activations;
                    call.out = all.out.add(column);
                    function(&call);
                }
            }
            for (&count, function) in groups.iter().zip(self.implementation.tile_functions) {
                while first + count <= all.tokens {
                    // SAFETY: the caller's promise.
                    unsafe {
                        call.tokens = count;
                        call.activations = all.activations.add(first * token_bytes);
                        call.out = all.out.add(first * all.out_stride + column);
                        if width == ROW_TILE {
                            function(&call);
                        } else {
                            edge_tile(*function, &call, count, width);
                        }
                    }
                    first += count;
                }
                if first == all.tokens {
                    break;
                }
            }
            column += width;
        }
    }
}

fn aligned(bytes: &[u8], operand: Operand) -> Result<(), Error> {
    match bytes
        .as_ptr()
        .addr()
        .is_multiple_of(LinearKernel::LEAST_ALIGN)
    {
        true => Ok(()),
        false => Err(Error::Alignment(operand)),
    }
}

/// A tile that hangs over the last row: only `width` results of each of `count` tokens are wanted.
///
/// # Safety
/// As [`kernel::TileFn`], but `tile.out` has room for `width` results a token only.
#[cold]
unsafe fn edge_tile(function: kernel::TileFn, tile: &Tile<'_>, count: usize, width: usize) {
    let mut results = [0f32; ROW_TILE * MAX_GROUP];
    let whole = Tile {
        out: results.as_mut_ptr(),
        out_stride: ROW_TILE,
        ..*tile
    };
    // SAFETY: `results` has room for the largest group; the rest is the caller's promise.
    unsafe {
        function(&whole);
        for (token, results) in results.chunks_exact(ROW_TILE).take(count).enumerate() {
            let to = tile.out.add(token * tile.out_stride);
            core::ptr::copy_nonoverlapping(results.as_ptr(), to, width);
        }
    }
}

/// The tiles that hold the rows of `range`.
fn tile_range(rows: usize, range: Range<usize>) -> Result<Range<usize>, Error> {
    let on_edge = |row: usize| row.is_multiple_of(ROW_TILE) || row == rows;
    if range.start > range.end || range.end > rows || !on_edge(range.start) || !on_edge(range.end) {
        return Err(Error::RowRange);
    }
    if range.is_empty() {
        return Ok(0..0);
    }
    Ok(range.start / ROW_TILE..tiles(range.end))
}

#[cfg(test)]
mod tests;
