//! Weights of linear layers, packed once for the kernel that multiplies them.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::{Isa, LinearKernel, MatrixMut, norm};

use super::contents::Matrix;
use super::packing::pack_matrix;
use super::{Buffer, LowRank, prepare};
use crate::import::TensorBytes;
use crate::pool::Pool;

type CoreError = furlong_core::Error;

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
    parts: Vec<MatrixPart>,
    kernel: LinearKernel,
    rows: usize,
    cols: usize,
    bytes: Storage,
    bias: Option<Arc<[f32]>>,
}

/// Rows of a packed matrix that were a layer of their own in the model.
#[derive(Debug)]
pub(crate) struct MatrixPart {
    /// The layer's name there.
    pub name: String,
    /// Where they are.
    pub rows: Range<usize>,
}

/// Working memory of a layer.
#[derive(Debug, Default)]
pub(crate) struct LinearScratch {
    /// Prepared activations.
    pub activations: Buffer,
    /// An adapter's products with A.
    pub hidden: Vec<f32>,
}

/// Packed bytes.
#[derive(Debug)]
enum Storage {
    Memory(Buffer),
    /// In a cache file.
    Mapped(TensorBytes),
}

impl Storage {
    fn as_slice(&self) -> &[u8] {
        match self {
            Storage::Memory(buffer) => buffer,
            Storage::Mapped(bytes) => bytes,
        }
    }
}

impl PackedMatrix {
    /// Packs a matrix into memory.
    pub(super) fn in_memory(
        matrix: &Matrix<'_>,
        isa: Isa,
        pool: &Pool,
    ) -> Result<PackedMatrix, CoreError> {
        let mut buffer = Buffer::zeroed(matrix.place.len());
        let mut rest: &mut [u8] = &mut buffer;
        pack_matrix(matrix, pool, |piece| {
            let (own, after) = std::mem::take(&mut rest)
                .split_at_mut_checked(piece.len())
                .ok_or(CoreError::Overflow)?;
            own.copy_from_slice(piece);
            rest = after;
            Ok::<(), CoreError>(())
        })?;
        PackedMatrix::new(matrix, isa, Storage::Memory(buffer))
    }

    /// A matrix that lies in `all` the packed bytes of its model.
    pub(super) fn mapped(
        matrix: &Matrix<'_>,
        isa: Isa,
        all: &TensorBytes,
    ) -> Result<PackedMatrix, CoreError> {
        let bytes = all.slice(matrix.place.clone()).ok_or(CoreError::Overflow)?;
        PackedMatrix::new(matrix, isa, Storage::Mapped(bytes))
    }

    fn new(matrix: &Matrix<'_>, isa: Isa, bytes: Storage) -> Result<PackedMatrix, CoreError> {
        let has_bias = matrix.parts.iter().any(|part| part.bias.is_some());
        let biases = matrix.parts.iter().filter_map(|part| part.bias.as_ref());
        let bias = has_bias.then(|| biases.flat_map(|bias| bias.iter().copied()).collect());
        let mut end = 0;
        let parts = matrix.parts.iter().map(|part| {
            let start = end;
            end += part.weights.rows;
            MatrixPart {
                name: part.name.clone(),
                rows: start..end,
            }
        });
        Ok(PackedMatrix {
            name: matrix.name(),
            parts: parts.collect(),
            kernel: matrix.kernel(isa)?,
            rows: matrix.rows,
            cols: matrix.cols,
            bytes,
            bias,
        })
    }

    /// What it was called in the model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The layers of the model that it was made of, from the top down.
    pub(crate) fn parts(&self) -> &[MatrixPart] {
        &self.parts
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
        self.bytes.as_slice().len()
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
            self.bytes.as_slice(),
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

impl PackedLinear {
    /// The layer of these matrices, which have the same columns.
    pub(crate) fn new(matrices: Vec<PackedMatrix>) -> PackedLinear {
        PackedLinear {
            rows: matrices.iter().map(|matrix| matrix.rows).sum(),
            cols: matrices.first().map_or(0, |matrix| matrix.cols),
            matrices,
        }
    }

    /// The matrices that make it up.
    pub(crate) fn matrices(&self) -> &[PackedMatrix] {
        &self.matrices
    }

    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Widens row `row` of a layer of one matrix into `out`, `[cols]`.
    ///
    /// # Errors
    /// A row that isn't there, or a length that doesn't fit.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) -> Result<(), CoreError> {
        let [matrix] = self.matrices.as_slice() else {
            return Err(CoreError::Shape);
        };
        let layout = matrix.kernel.layout();
        layout.unpack_row(matrix.bytes.as_slice(), self.rows, self.cols, row, out)
    }

    /// `out = x · Wᵀ + b`, for `x` `[tokens, cols]` and `out` `[tokens, rows]`, and what an adapter adds to it.
    ///
    /// `scratch` holds the prepared activations meanwhile.
    pub(crate) fn apply(
        &self,
        x: &[f32],
        tokens: usize,
        out: &mut [f32],
        scratch: &mut LinearScratch,
        adapter: Option<&LowRank>,
        pool: &Pool,
    ) -> Result<(), CoreError> {
        let LinearScratch {
            activations: scratch,
            hidden,
        } = scratch;
        let side = adapter
            .map(|adapter| adapter.begin(x, tokens, hidden, pool))
            .transpose()?;
        let mut rest = MatrixMut::new(out, tokens, self.rows)?;
        let mut prepared = None;
        for (index, matrix) in self.matrices.iter().enumerate() {
            let kernel = &matrix.kernel;
            if prepared != Some(kernel.activation_layout()) {
                prepare(kernel, x, tokens, self.cols, scratch, pool)?;
                prepared = Some(kernel.activation_layout());
            }
            let (own, after) = rest.split_at_column(matrix.rows);
            rest = after;
            let activations: &[u8] = scratch;
            pool.for_columns(own, kernel.row_tile(), &|rows, mut part| {
                matrix.multiply(activations, tokens, rows.clone(), part.reborrow())?;
                match &side {
                    Some(side) => side.add(index, rows, part),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }
}
