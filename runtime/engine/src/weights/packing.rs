//! Packing the matrices of a model's file, some rows at a time, on all threads.

use std::ops::Range;

use furlong_core::{DenseWeights, Floats, PackedLayout, Weights, f16};

use super::SourceView;
use super::contents::Matrix;
use crate::import::TensorBytes;
use crate::pool::Pool;
use crate::rewrite::{FloatWidth, WeightData, WeightSource};

type CoreError = furlong_core::Error;

/// Rows that one thread packs at a time: enough to keep it busy, few enough to share out.
const ROWS_AT_ONCE: usize = 256;

/// Packs a matrix from the top down. `take` gets each piece of packed bytes in turn, as soon as it is there; the
/// pages of the model's file that went into it are released.
///
/// # Errors
/// A format or size that the kernels refuse, and what `take` says.
pub(crate) fn pack_matrix<E: From<CoreError>>(
    matrix: &Matrix<'_>,
    pool: &Pool,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut piece = Vec::new();
    for part in &matrix.parts {
        let source = &part.weights;
        let packer = Packer::new(matrix.layout, source);
        let mut first = 0;
        while first < source.rows {
            let rows = first..source.rows.min(first + ROWS_AT_ONCE * pool.threads());
            first = rows.end;
            let bytes = matrix
                .layout
                .packed_range(source.rows, source.cols, rows.clone())?;
            piece.resize(bytes.len(), 0);
            packer.pack(rows.clone(), &mut piece, pool)?;
            take(&piece)?;
            release_rows(source, rows);
        }
        release_all(source);
    }
    Ok(())
}

/// One matrix of the file on its way to packed rows.
struct Packer<'s> {
    layout: PackedLayout,
    source: &'s WeightSource,
    view: SourceView<'s>,
}

impl<'s> Packer<'s> {
    fn new(layout: PackedLayout, source: &'s WeightSource) -> Packer<'s> {
        Packer {
            layout,
            source,
            view: SourceView::new(source),
        }
    }

    /// Packs `rows` into `dst`, which is as long as they are.
    fn pack(&self, rows: Range<usize>, mut dst: &mut [u8], pool: &Pool) -> Result<(), CoreError> {
        let (layout, source) = (self.layout, self.source);
        let mut jobs = Vec::new();
        let mut first = rows.start;
        while first < rows.end {
            let range = first..rows.end.min(first + ROWS_AT_ONCE);
            first = range.end;
            let size = layout
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
                layout.pack(&weights, 0..count, dst)
            }),
            _ => {
                let weights = self.view.weights()?;
                pool.for_each(jobs, |(range, dst)| layout.pack(&weights, range, dst))
            }
        }
    }
}

/// Hands the pages of some rows' codes or numbers back.
fn release_rows(source: &WeightSource, rows: Range<usize>) {
    let bytes = match &source.data {
        // Each of its pages has a part of every row.
        WeightData::Dense {
            transposed: true, ..
        } => return,
        WeightData::Dense { bytes, .. } => bytes,
        WeightData::Blocks { codes, .. } => codes,
    };
    let row = bytes.len() / source.rows.max(1);
    if let Some(rows) = bytes.slice(rows.start * row..rows.end * row) {
        rows.release_pages();
    }
}

/// Hands all pages of a packed matrix back.
fn release_all(source: &WeightSource) {
    match &source.data {
        WeightData::Dense { bytes, .. } => bytes.release_pages(),
        WeightData::Blocks {
            codes,
            scales,
            zero_points,
            ..
        } => {
            let points = zero_points.bytes();
            [Some(codes), Some(scales), points]
                .into_iter()
                .flatten()
                .for_each(TensorBytes::release_pages);
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
