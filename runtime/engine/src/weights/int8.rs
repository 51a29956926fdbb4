//! Weights of 8 bits by rows, packed once for the kernel that multiplies them.

use std::sync::Arc;

use furlong_core::gather::gather_row;
use furlong_core::int8::Ranges;
use furlong_core::{Int8Kernel, Isa, MatrixMut};

use super::{Buffer, SourceView};
use crate::pool::Pool;
use crate::rewrite::{Int8Source, Int8Spec, WeightSource};

type CoreError = furlong_core::Error;

/// A linear layer: its parts' rows one below the other.
#[derive(Debug)]
pub(crate) struct PackedInt8 {
    name: String,
    kernel: Int8Kernel,
    ranges: Ranges,
    rows: usize,
    cols: usize,
    bytes: Buffer,
    bias: Option<Arc<[f32]>>,
}

impl PackedInt8 {
    /// Packs a layer.
    ///
    /// # Errors
    /// What the kernel refuses: too many columns.
    pub(crate) fn new(spec: &Int8Spec, isa: Isa) -> Result<PackedInt8, CoreError> {
        let kernel = Int8Kernel::select(isa);
        let (rows, cols) = (spec.rows(), spec.cols());
        let mut bytes = Buffer::zeroed(kernel.packed_bytes(rows, cols)?);
        let mut first = 0;
        for part in &spec.parts {
            each_row(&part.weights, |row, codes, scale, zero| {
                kernel.pack_row(first + row, rows, codes, scale, zero, &mut bytes)
            })?;
            first += part.weights.rows();
        }
        let has_bias = spec.parts.iter().any(|part| part.bias.is_some());
        let bias = has_bias.then(|| {
            let biases = spec.parts.iter().map(|part| match &part.bias {
                Some(bias) => bias.to_vec(),
                None => vec![0.0; part.weights.rows()],
            });
            biases.flatten().collect()
        });
        let names: Vec<&str> = spec.parts.iter().map(|part| part.name.as_str()).collect();
        Ok(PackedInt8 {
            name: names.join(" + "),
            kernel,
            ranges: spec.ranges,
            rows,
            cols,
            bytes,
            bias,
        })
    }

    /// What it was called in the model; several that were joined have a `+` between.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The kernel that multiplies it.
    pub(crate) fn kernel(&self) -> Int8Kernel {
        self.kernel
    }

    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Which activations share a scale.
    pub(crate) fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// The matrix as the kernels read it.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.bytes
    }

    /// What is added to the products, `[rows]`.
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// `out = x · Wᵀ + b`, for `x` `[tokens, cols]` and `out` `[tokens, rows]`.
    ///
    /// `scratch` holds the prepared activations meanwhile.
    pub(crate) fn apply(
        &self,
        x: &[f32],
        tokens: usize,
        out: &mut [f32],
        scratch: &mut Buffer,
        pool: &Pool,
    ) -> Result<(), CoreError> {
        let bytes = self.kernel.activation_bytes(tokens, self.cols)?;
        self.kernel
            .prepare(x, tokens, self.cols, self.ranges, scratch.reserve(bytes))?;
        let activations: &[u8] = scratch;
        let out = MatrixMut::new(out, tokens, self.rows)?;
        pool.for_columns(out, self.kernel.row_tile(), &|rows, part| {
            let bias = self.bias.as_deref();
            self.kernel.multiply(
                &self.bytes,
                self.rows,
                self.cols,
                activations,
                tokens,
                rows,
                bias,
                part,
            )
        })
    }
}

/// Calls `pack` with the index, codes, scale and zero point of each row.
fn each_row(
    source: &Int8Source,
    pack: impl FnMut(usize, &[i8], f32, i32) -> Result<(), CoreError>,
) -> Result<(), CoreError> {
    match source {
        Int8Source::Columns {
            rows,
            codes,
            signed,
            scales,
            zeros,
            ..
        } => stored_by_columns(*rows, codes, *signed, scales, zeros, pack),
        Int8Source::Blocks(source) => from_blocks(source, pack),
    }
}

fn stored_by_columns(
    rows: usize,
    codes: &[u8],
    signed: bool,
    scales: &[f32],
    zeros: &[u8],
    mut pack: impl FnMut(usize, &[i8], f32, i32) -> Result<(), CoreError>,
) -> Result<(), CoreError> {
    // Unsigned codes and zero points are moved by 128 alike.
    let flip = if signed { 0 } else { 0x80 };
    let mut row_codes = Vec::new();
    for row in 0..rows {
        let stored = codes.iter().skip(row).step_by(rows);
        row_codes.clear();
        row_codes.extend(stored.map(|&code| (code ^ flip) as i8));
        let scale = scales.get(row).or(scales.first()).copied().unwrap_or(0.0);
        let zero = zeros.get(row).or(zeros.first()).copied().unwrap_or(flip);
        pack(row, &row_codes, scale, i32::from((zero ^ flip) as i8))?;
    }
    Ok(())
}

/// Rounds rows anew: the scale is the largest weight by 127.
fn from_blocks(
    source: &WeightSource,
    mut pack: impl FnMut(usize, &[i8], f32, i32) -> Result<(), CoreError>,
) -> Result<(), CoreError> {
    let view = SourceView::new(source);
    let weights = view.weights()?;
    let mut values = vec![0.0; source.cols];
    let mut codes = Vec::new();
    for row in 0..source.rows {
        gather_row(&weights, row, &mut values)?;
        let largest = values.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        codes.clear();
        codes.extend(values.iter().map(|v| (v * inverse).round_ties_even() as i8));
        pack(row, &codes, largest / 127.0, 0)?;
    }
    Ok(())
}
