//! Linear layers as ops: activations made ready, then multiplied.

use furlong_core::linear::activation_bytes;
use furlong_core::plan::{BufferId, Columns, Content, Op, Rows, TensorFormat, TensorId};
use furlong_core::{Isa, WeightFormat};
use tract_core::internal::*;

use super::super::constants;
use super::super::program::{Extent, PlannedTensor};
use super::{Emitter, activation_of};
use crate::Error;
use crate::rewrite::{self, Int8Spec};
use crate::weights::{Contents, Matrix, PackError, PackedInt8};

/// Rows of the two matrices of a gated layer that are computed before they are joined.
const GATED_ROWS: usize = 64;

/// Tokens that are prepared together for a matrix of 8 bits by rows.
const TOKENS: usize = 16;

impl<'s> Emitter<'s> {
    /// Multiplies `x` by the matrices of layer `index`, side by side into `out`.
    pub(super) fn linear(
        &mut self,
        node: &str,
        x: BufferId,
        index: usize,
        rows: Rows,
        out: BufferId,
    ) -> Result<(), Error> {
        let contents: &'s Contents<'s> = self.source.contents;
        let matrices = contents.layers.get(index).map_or(&[][..], Vec::as_slice);
        let mut prepared = None;
        let mut column = 0;
        for matrix in matrices {
            let (weights, bias) = self.matrix(matrix)?;
            let format = matrix.layout.format();
            let activations = match prepared {
                Some((known, buffer)) if known == format => buffer,
                _ => self.prepare(node, x, format, matrix.cols, weights, rows)?,
            };
            prepared = Some((format, activations));
            let out = Columns {
                buffer: out,
                column: self.column(column)?,
            };
            let op = Op::Multiply {
                activations,
                weights,
                bias,
                out,
                rows,
            };
            self.program.push(node, op);
            column += matrix.rows;
        }
        Ok(())
    }

    pub(super) fn prepare(
        &mut self,
        node: &str,
        x: BufferId,
        format: WeightFormat,
        columns: usize,
        weights: TensorId,
        rows: Rows,
    ) -> Result<BufferId, Error> {
        let bytes = activation_bytes(format, self.source.isa, 1, columns);
        let bytes = bytes.map_err(|error| self.unsupported(&format!("node {node:?}: {error}")))?;
        let extent = match rows {
            Rows::All => self.extent(x),
            Rows::Last => Extent::Fixed(1),
        };
        let name = format!("{node}, prepared");
        let out = self.program.buffer(name, Content::Bytes, extent, bytes);
        let op = Op::Prepare {
            x,
            weights,
            out,
            rows,
        };
        self.program.push(node, op);
        Ok(out)
    }

    pub(super) fn gated(
        &mut self,
        node: &TypedNode,
        index: usize,
        activation: rewrite::Activation,
    ) -> Result<(), Error> {
        let x = self.take(node, 0)?;
        let contents: &'s Contents<'s> = self.source.contents;
        let matrices = contents.layers.get(index).map_or(&[][..], Vec::as_slice);
        let [gate, up] = matrices else {
            return Err(self.unsupported("a gated layer that has not two matrices"));
        };
        let (rows, name) = (gate.rows, node.name.as_str());
        let (gate_weights, gate_bias) = self.matrix(gate)?;
        let (up_weights, up_bias) = self.matrix(up)?;
        let activations = self.prepare(
            name,
            x,
            gate.layout.format(),
            gate.cols,
            gate_weights,
            Rows::All,
        )?;
        let width = GATED_ROWS.min(rows.next_multiple_of(16));
        let scratch_name = format!("{name}, before it is joined");
        let tiles = Extent::Tiles(2);
        let scratch = self
            .program
            .buffer(scratch_name, Content::Floats, tiles, width);
        let out = self.floats_like(name, x, rows);
        let op = Op::Gated {
            activation: activation_of(activation),
            activations,
            gate: gate_weights,
            up: up_weights,
            gate_bias,
            up_bias,
            scratch,
            out,
        };
        self.program.push(name, op);
        self.give(node, 0, out);
        Ok(())
    }

    /// Multiplies all rows of what was prepared by one matrix.
    pub(super) fn multiply(
        &mut self,
        node: &str,
        activations: BufferId,
        weights: TensorId,
        bias: Option<TensorId>,
        buffer: BufferId,
    ) {
        let op = Op::Multiply {
            activations,
            weights,
            bias,
            out: Columns { buffer, column: 0 },
            rows: Rows::All,
        };
        self.program.push(node, op);
    }

    /// Multiplies `x` by a matrix of 8 bits by rows.
    pub(super) fn int8_linear(
        &mut self,
        node: &str,
        x: BufferId,
        spec: &Int8Spec,
    ) -> Result<BufferId, Error> {
        let refuse = |error| PackError::new(node, error).of(self.source.path);
        let packed = PackedInt8::new(spec, Isa::SCALAR).map_err(refuse)?;
        let columns = packed.kernel().activation_bytes(TOKENS, packed.cols());
        let columns = columns.map_err(refuse)? / TOKENS;
        let bias = packed.bias().map(|bias| {
            let bias = constants::vector(&format!("{node}, bias"), bias);
            self.program.tensor(bias)
        });
        let weights = self.program.tensor(PlannedTensor {
            name: packed.name().to_owned(),
            format: TensorFormat::Rows8(packed.ranges()),
            rows: packed.rows(),
            columns: packed.cols(),
            bytes: packed.packed().to_vec(),
        });
        let extent = match self.extent(x) {
            Extent::Fixed(rows) => Extent::Fixed(rows.next_multiple_of(TOKENS)),
            _ => Extent::Panels(TOKENS),
        };
        let name = format!("{node}, prepared");
        let activations = self.program.buffer(name, Content::Bytes, extent, columns);
        let prepare = Op::Prepare {
            x,
            weights,
            out: activations,
            rows: Rows::All,
        };
        self.program.push(node, prepare);
        let out = self.floats_like(node, x, packed.rows());
        self.multiply(node, activations, weights, bias, out);
        Ok(out)
    }

    /// A packed matrix in the image, and its bias.
    pub(super) fn matrix(
        &mut self,
        matrix: &Matrix<'s>,
    ) -> Result<(TensorId, Option<TensorId>), Error> {
        if let Some(&known) = self.matrices.get(&matrix.place.start) {
            return Ok(known);
        }
        let packed = constants::matrix(matrix, self.source.pool);
        let (weights, bias) = packed.map_err(|error| error.of(self.source.path))?;
        let weights = self.program.tensor(weights);
        let bias = bias.map(|bias| self.program.tensor(bias));
        self.matrices.insert(matrix.place.start, (weights, bias));
        Ok((weights, bias))
    }
}
