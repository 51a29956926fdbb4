//! What a model's packed weights are before any is packed: which matrices, in which order, where each lies.

use std::ops::Range;

use furlong_core::{
    BlockWeights, DenseWeights, Floats, IsaKind, LinearKernel, PackedLayout, WeightFormat, Weights,
    ZeroPoints, f16,
};
use sha2::{Digest, Sha256};

use super::{PackError, weight_format};
use crate::rewrite::{LinearPart, LinearSpec, OpSpec};

/// All matrices of a model, as one run of bytes.
#[derive(Debug)]
pub(crate) struct Contents<'s> {
    /// The matrices of each of the model's ops, in the order of its specs; those of the head come last.
    pub layers: Vec<Vec<Matrix<'s>>>,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// One matrix to be packed: matrices of one format, one below the other.
#[derive(Debug)]
pub(crate) struct Matrix<'s> {
    /// From the top down; all but the last end on a tile.
    pub parts: Vec<&'s LinearPart>,
    /// How it is packed.
    pub layout: PackedLayout,
    /// Outputs of all parts.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Where it lies among all.
    pub place: Range<usize>,
}

impl<'s> Contents<'s> {
    /// What the ops `specs` and the layer `head` need on `isa`, which this machine needn't have.
    ///
    /// # Errors
    /// A layer whose format no kernel reads, or that is too large.
    pub(crate) fn of(
        specs: &'s [OpSpec],
        head: Option<&'s LinearSpec>,
        isa: IsaKind,
    ) -> Result<Contents<'s>, PackError> {
        let mut contents = Contents {
            layers: Vec::with_capacity(specs.len() + 1),
            bytes: 0,
        };
        let layers = specs.iter().map(|spec| match spec {
            OpSpec::Linear(linear) => (Some(linear), true),
            OpSpec::Gated(linear, _) => (Some(linear), false),
            _ => (None, false),
        });
        for (linear, joined) in layers.chain([(head, true)]) {
            let mut matrices: Vec<Matrix<'_>> = Vec::new();
            for part in linear.map_or(&[][..], |linear| &linear.parts) {
                contents
                    .add(&mut matrices, part, joined, isa)
                    .map_err(|error| PackError::new(&part.name, error))?;
            }
            contents.layers.push(matrices);
        }
        Ok(contents)
    }

    /// Adds a part below the layer's last matrix where the tiles allow, else as a matrix of its own.
    fn add(
        &mut self,
        matrices: &mut Vec<Matrix<'s>>,
        part: &'s LinearPart,
        joined: bool,
        isa: IsaKind,
    ) -> Result<(), furlong_core::Error> {
        let layout = PackedLayout::of(weight_format(&part.weights)?, isa)?;
        let cols = part.weights.cols;
        let bytes = layout.packed_bytes(part.weights.rows, cols)?;
        let end = self.bytes.checked_add(bytes);
        let place = self.bytes..end.ok_or(furlong_core::Error::Overflow)?;
        self.bytes = place.end;
        if let Some(last) = matrices.last_mut().filter(|_| joined)
            && last.takes(part, layout)
        {
            last.parts.push(part);
            last.rows += part.weights.rows;
            last.place.end = place.end;
            return Ok(());
        }
        matrices.push(Matrix {
            parts: vec![part],
            layout,
            rows: part.weights.rows,
            cols,
            place,
        });
        Ok(())
    }

    /// A digest of everything that says which bytes belong where: names, shapes, and the packing itself.
    pub(crate) fn digest(&self) -> Sha256 {
        let mut digest = Sha256::new();
        digest.update([cfg!(target_endian = "big").into()]);
        let mut layouts: Vec<PackedLayout> = Vec::new();
        for matrix in self.layers.iter().flatten() {
            let name = matrix.name();
            for number in [name.len(), matrix.rows, matrix.cols, matrix.place.start] {
                digest.update((number as u64).to_le_bytes());
            }
            digest.update(name);
            let known = layouts.iter().position(|&layout| layout == matrix.layout);
            let index = known.unwrap_or(layouts.len());
            digest.update((index as u64).to_le_bytes());
            if known.is_none() {
                layouts.push(matrix.layout);
                digest.update(packed_sample(matrix.layout));
            }
        }
        digest
    }
}

impl Matrix<'_> {
    fn takes(&self, part: &LinearPart, layout: PackedLayout) -> bool {
        let same = self.parts.iter().all(|other| {
            other.weights.format() == part.weights.format()
                && other.bias.is_some() == part.bias.is_some()
        });
        same && self.layout == layout && self.rows.is_multiple_of(layout.row_tile())
    }

    /// What it is called in the model; several that were joined have a `+` between.
    pub(crate) fn name(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
        names.join(" + ")
    }

    /// The kernel that multiplies it.
    ///
    /// # Errors
    /// A format that no kernel reads.
    pub(crate) fn kernel(
        &self,
        isa: furlong_core::Isa,
    ) -> Result<LinearKernel, furlong_core::Error> {
        LinearKernel::select(self.layout.format(), isa)
    }
}

/// A small matrix as `layout` packs it: another packing gives other bytes, so that no version number has to be
/// kept in step with the kernels.
fn packed_sample(layout: PackedLayout) -> Vec<u8> {
    const COLUMNS: usize = 128;
    let rows = layout.row_tile();
    let numbers: Vec<f32> = (0..rows * COLUMNS)
        .map(|i| (i % 2039) as f32 / 8.0)
        .collect();
    let halves: Vec<f16> = numbers.iter().map(|&x| f16::from_f32(x)).collect();
    let codes: Vec<u8> = (0..rows * COLUMNS).map(|i| (i * 167 % 251) as u8).collect();
    let weights: Result<Weights<'_>, furlong_core::Error> = match layout.format() {
        WeightFormat::F32 => {
            DenseWeights::new(rows, COLUMNS, Floats::F32(&numbers)).map(Into::into)
        }
        WeightFormat::F16 => DenseWeights::new(rows, COLUMNS, Floats::F16(&halves)).map(Into::into),
        WeightFormat::Block {
            bits,
            block,
            offset,
        } => {
            let block = usize::from(block);
            let blocks = rows * COLUMNS / block;
            let bytes = rows * COLUMNS * usize::from(bits) / 8;
            let scales = Floats::F32(numbers.get(..blocks).unwrap_or_default());
            let points = Floats::F32(numbers.get(blocks..2 * blocks).unwrap_or_default());
            let zero_points = match offset {
                true => ZeroPoints::Float(points),
                false => ZeroPoints::Middle,
            };
            let codes = codes.get(..bytes).unwrap_or_default();
            BlockWeights::new(bits, block, rows, COLUMNS, codes, scales, zero_points)
                .map(Into::into)
        }
    };
    let packed = weights.and_then(|weights| {
        let mut packed = vec![0; layout.packed_bytes(rows, COLUMNS)?];
        layout.pack(&weights, 0..rows, &mut packed)?;
        Ok(packed)
    });
    packed.unwrap_or_default()
}
