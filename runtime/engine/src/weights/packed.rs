//! Weights of linear layers, packed once for the kernel that multiplies them.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::{DenseWeights, Floats, Isa, LinearKernel, MatrixMut, Weights, f16, norm};

use super::{Buffer, SourceView, prepare};
use crate::pool::Pool;
use crate::rewrite::{FloatWidth, LinearPart, LinearSpec, WeightData, WeightSource};

type CoreError = furlong_core::Error;

/// Rows that are packed at a time: enough to keep a thread busy, few enough to share out.
const ROWS_AT_ONCE: usize = 256;

/// A linear layer: matrices that read the same input, whose outputs lie side by side.
#[derive(Debug)]
pub(crate) struct PackedLinear {
    matrices: Vec<PackedMatrix>,
    rows: usize,
    cols: usize,
}

/// One packed matrix, with the kernel that reads it.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    name: String,
    kernel: LinearKernel,
    rows: usize,
    cols: usize,
    bytes: Buffer,
    bias: Option<Arc<[f32]>>,
}

/// Packs a layer. Parts are joined to one matrix where the kernel's tiles allow.
pub(crate) fn pack(spec: &LinearSpec, isa: Isa, pool: &Pool) -> Result<PackedLinear, CoreError> {
    let mut matrices = Vec::new();
    let mut group: Vec<&LinearPart> = Vec::new();
    for part in &spec.parts {
        let tile = kernel_for(&part.weights, isa)?.row_tile();
        let aligned = group
            .iter()
            .all(|part| part.weights.rows.is_multiple_of(tile));
        let same = group.iter().all(|other| {
            other.weights.format() == part.weights.format()
                && other.bias.is_some() == part.bias.is_some()
        });
        let joins = aligned && same;
        if !joins && !group.is_empty() {
            matrices.push(PackedMatrix::new(&group, isa, pool)?);
            group.clear();
        }
        group.push(part);
    }
    if !group.is_empty() {
        matrices.push(PackedMatrix::new(&group, isa, pool)?);
    }
    Ok(PackedLinear {
        matrices,
        rows: spec.rows(),
        cols: spec.cols(),
    })
}

fn kernel_for(source: &WeightSource, isa: Isa) -> Result<LinearKernel, CoreError> {
    let format = match &source.data {
        WeightData::Dense {
            width: FloatWidth::F16,
            ..
        } => furlong_core::WeightFormat::F16,
        WeightData::Dense {
            width: FloatWidth::F32,
            ..
        } => furlong_core::WeightFormat::F32,
        WeightData::Blocks { .. } => SourceView::new(source).weights()?.format(),
    };
    LinearKernel::select(format, isa)
}

impl PackedMatrix {
    /// Packs matrices of one format, one below the other.
    fn new(parts: &[&LinearPart], isa: Isa, pool: &Pool) -> Result<PackedMatrix, CoreError> {
        let first = parts.first().ok_or(CoreError::Shape)?;
        let kernel = kernel_for(&first.weights, isa)?;
        let cols = first.weights.cols;
        let rows = parts.iter().map(|part| part.weights.rows).sum();
        let mut bytes = Buffer::zeroed(kernel.packed_bytes(rows, cols)?);
        let mut rest: &mut [u8] = &mut bytes;
        for part in parts {
            let size = kernel.packed_bytes(part.weights.rows, cols)?;
            let (own, after) = rest.split_at_mut_checked(size).ok_or(CoreError::Overflow)?;
            pack_part(&kernel, &part.weights, own, pool)?;
            rest = after;
        }
        let bias = first.bias.is_some().then(|| {
            parts
                .iter()
                .flat_map(|part| part.bias.iter().flat_map(|b| b.iter().copied()))
                .collect()
        });
        let name = match parts {
            [only] => only.name.clone(),
            _ => parts
                .iter()
                .map(|part| part.name.as_str())
                .collect::<Vec<_>>()
                .join(" + "),
        };
        Ok(PackedMatrix {
            name,
            kernel,
            rows,
            cols,
            bytes,
            bias,
        })
    }

    /// What it was called in the model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The kernel that multiplies it.
    pub(crate) fn kernel(&self) -> &LinearKernel {
        &self.kernel
    }

    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Multiplies rows of the matrix by prepared activations, and adds the bias.
    pub(crate) fn multiply(
        &self,
        activations: &[u8],
        tokens: usize,
        rows: Range<usize>,
        mut out: MatrixMut<'_>,
    ) -> Result<(), CoreError> {
        self.kernel.multiply(
            &self.bytes,
            self.rows,
            self.cols,
            activations,
            tokens,
            rows.clone(),
            out.reborrow(),
        )?;
        let Some(bias) = self.bias.as_ref().and_then(|bias| bias.get(rows)) else {
            return Ok(());
        };
        for token in 0..tokens {
            let row = out.row_mut(token).unwrap_or_default();
            norm::add(self.kernel.isa(), row, bias)?;
        }
        Ok(())
    }
}

/// Packs one matrix into its part of the bytes, on all threads.
fn pack_part(
    kernel: &LinearKernel,
    source: &WeightSource,
    mut dst: &mut [u8],
    pool: &Pool,
) -> Result<(), CoreError> {
    let mut jobs = Vec::new();
    let mut first = 0;
    while first < source.rows {
        let range = first..source.rows.min(first + ROWS_AT_ONCE);
        first = range.end;
        let size = kernel
            .packed_range(source.rows, source.cols, range.clone())?
            .len();
        let (own, after) = dst.split_at_mut_checked(size).ok_or(CoreError::Overflow)?;
        jobs.push((range, own));
        dst = after;
    }
    match &source.data {
        WeightData::Dense {
            bytes,
            width,
            transposed: true,
        } => pool.for_each(jobs, |(range, dst)| {
            let count = range.len();
            let columns = turned(bytes, *width, source, range);
            let values = match &columns {
                Turned::F16(values) => Floats::F16(values),
                Turned::F32(values) => Floats::F32(values),
            };
            let weights: Weights<'_> = DenseWeights::new(count, source.cols, values)?.into();
            kernel.pack(&weights, 0..count, dst)
        })?,
        _ => {
            let view = SourceView::new(source);
            let weights = view.weights()?;
            pool.for_each(jobs, |(range, dst)| kernel.pack(&weights, range, dst))?;
        }
    }
    release(source);
    Ok(())
}

/// Hands the pages of a packed matrix's source back.
fn release(source: &WeightSource) {
    match &source.data {
        WeightData::Dense { bytes, .. } => bytes.release_pages(),
        WeightData::Blocks { codes, scales, .. } => {
            codes.release_pages();
            scales.release_pages();
        }
    }
}

/// Rows of a matrix that is stored by columns.
enum Turned {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

/// Reads the rows `range` of a matrix that is stored as `[cols, rows]`.
fn turned(bytes: &[u8], width: FloatWidth, source: &WeightSource, range: Range<usize>) -> Turned {
    match width {
        FloatWidth::F16 => Turned::F16(turn(bytes, source, range, f16::from_le_bytes)),
        FloatWidth::F32 => Turned::F32(turn(bytes, source, range, f32::from_le_bytes)),
    }
}

fn turn<const N: usize, T: Copy + Default>(
    bytes: &[u8],
    source: &WeightSource,
    range: Range<usize>,
    read: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let (numbers, _) = bytes.as_chunks::<N>();
    let mut out = vec![T::default(); range.len() * source.cols];
    for (col, stored) in numbers.chunks_exact(source.rows).enumerate() {
        let values = stored.get(range.clone()).unwrap_or_default();
        for (out, &value) in out.iter_mut().skip(col).step_by(source.cols).zip(values) {
            *out = read(value);
        }
    }
    out
}

impl PackedLinear {
    /// The matrices that make it up.
    pub(crate) fn matrices(&self) -> &[PackedMatrix] {
        &self.matrices
    }

    /// The matrix, where there is just one.
    pub(crate) fn into_only(self) -> Option<PackedMatrix> {
        <[PackedMatrix; 1]>::try_from(self.matrices)
            .ok()
            .map(|[matrix]| matrix)
    }

    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        self.cols
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
        let mut rest = MatrixMut::new(out, tokens, self.rows)?;
        let mut prepared = None;
        for matrix in &self.matrices {
            let kernel = &matrix.kernel;
            if prepared != Some(kernel.activation_layout()) {
                prepare(kernel, x, tokens, self.cols, scratch, pool)?;
                prepared = Some(kernel.activation_layout());
            }
            let (own, after) = rest.split_at_column(matrix.rows);
            rest = after;
            let activations: &[u8] = scratch;
            pool.for_columns(own, kernel.row_tile(), &|rows, part| {
                matrix.multiply(activations, tokens, rows, part)
            })?;
        }
        Ok(())
    }
}
