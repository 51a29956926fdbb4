//! Linear layers: one node each, whatever the weights are stored as.

use super::{Exporter, Storage};
use crate::checkpoint::Tensor;
use crate::error::Result;
use crate::onnx::{Attribute, Dim, Element, Value, dims};
use crate::quantise::{BLOCK, Quantised, Recipe, ZeroPoints, quantise, to_f16};

impl Exporter<'_> {
    /// `x · weightᵀ (+ bias)` for the module of that name, whose weight is `[out, in]`.
    pub(super) fn linear(&mut self, module: &str, x: &Value, bias: bool) -> Result<Value> {
        let weight = self.tensor(&format!("{module}.weight"))?;
        let bias = if bias {
            Some(self.tensor(&format!("{module}.bias"))?)
        } else {
            None
        };
        self.linear_of(module, x, weight, bias)
    }

    /// The same with a weight `[out, in]` and a bias `[out]` that are already at hand.
    pub(super) fn linear_of(
        &mut self,
        module: &str,
        x: &Value,
        weight: Tensor,
        bias: Option<Tensor>,
    ) -> Result<Value> {
        let product = self.product(module, x, weight, self.precision.linear)?;
        let Some(bias) = bias else { return Ok(product) };
        let bias = self
            .graph
            .constant_f32(&format!("{module}.bias"), &bias.shape, &bias.data)?;
        Ok(self.graph.op(
            "Add",
            &format!("{module}.add_bias"),
            &[&product, &bias],
            &[],
        ))
    }

    /// `x · weightᵀ` with the weight `[out, in]` stored as `storage` says.
    pub(super) fn product(
        &mut self,
        module: &str,
        x: &Value,
        weight: Tensor,
        storage: Storage,
    ) -> Result<Value> {
        let name = format!("{module}.weight");
        let weight = match storage {
            Storage::F32 => {
                let weight = weight.transposed();
                self.graph
                    .constant_f32(&name, &weight.shape, &weight.data)?
            }
            Storage::F16 => {
                let half = self.constant_f16(&name, weight.transposed())?;
                self.widened(&half)
            }
            Storage::Blocks(recipe) => {
                let blocks = self.blocks(&name, &weight, recipe)?;
                return Ok(self.block_product(module, x, &blocks));
            }
        };
        Ok(self.graph.op("MatMul", module, &[x, &weight], &[]))
    }

    /// Quantises a matrix `[rows, cols]` and stores its parts in `MatMulNBits`' shapes.
    pub(super) fn blocks(&mut self, name: &str, weight: &Tensor, recipe: Recipe) -> Result<Blocks> {
        let (rows, cols) = match weight.shape[..] {
            [rows, cols] => (rows, cols),
            _ => (1, weight.data.len()),
        };
        let Quantised {
            bits,
            codes,
            scales,
            zero_points,
            ..
        } = quantise(&weight.data, rows, cols, recipe);
        let blocks = cols.div_ceil(BLOCK);
        let graph = &mut self.graph;
        let shape = [rows, blocks, BLOCK * bits / 8];
        let codes = graph.constant(name, Element::U8, &shape, &codes)?;
        let scales = graph.constant_f32(&format!("{name}.scales"), &[rows * blocks], &scales)?;
        let name = format!("{name}.zero_points");
        let zero_points = match zero_points {
            ZeroPoints::Middle => None,
            ZeroPoints::Packed(packed) => {
                Some(graph.constant(&name, Element::U8, &[packed.len()], &packed)?)
            }
            ZeroPoints::Float(zeros) => Some(graph.constant_f32(&name, &[zeros.len()], &zeros)?),
        };
        Ok(Blocks {
            bits,
            rows,
            cols,
            codes,
            scales,
            zero_points,
        })
    }

    /// `x · weightᵀ` with a weight in blocks. Accuracy level 4 lets a runtime quantise `x` to 8 bits on the fly.
    pub(super) fn block_product(&mut self, module: &str, x: &Value, weight: &Blocks) -> Value {
        let mut inputs = vec![Some(x), Some(&weight.codes), Some(&weight.scales)];
        if let Some(zero_points) = &weight.zero_points {
            inputs.push(Some(zero_points));
        }
        let attributes = [
            Attribute::int("K", weight.cols as i64),
            Attribute::int("N", weight.rows as i64),
            Attribute::int("bits", weight.bits as i64),
            Attribute::int("block_size", BLOCK as i64),
            Attribute::int("accuracy_level", 4),
        ];
        let shape = [dims::BATCH, dims::SEQUENCE, Dim::Size(weight.rows)];
        self.graph
            .microsoft_op("MatMulNBits", module, &inputs, &attributes, &shape)
    }

    /// Stores a tensor in f16.
    pub(super) fn constant_f16(&mut self, name: &str, tensor: Tensor) -> Result<Value> {
        let half: Vec<u16> = tensor
            .data
            .iter()
            .map(|&value| half::f16::from_f32(to_f16(value)).to_bits())
            .collect();
        let bytes = bytemuck::cast_slice(&half);
        Ok(self
            .graph
            .constant(name, Element::F16, &tensor.shape, bytes)?)
    }

    /// The f32 form of an f16 value.
    pub(super) fn widened(&mut self, half: &Value) -> Value {
        let to = Attribute::int("to", i64::from(Element::F32.code()));
        self.graph
            .op("Cast", &format!("{}.f32", half.name()), &[half], &[to])
    }
}

/// A stored matrix in blocks, in `MatMulNBits`' shapes.
pub(super) struct Blocks {
    /// Bits of a code.
    pub(super) bits: usize,
    /// Outputs.
    pub(super) rows: usize,
    /// Inputs.
    pub(super) cols: usize,
    /// `[rows, blocks, BLOCK * bits / 8]`.
    pub(super) codes: Value,
    /// `[rows * blocks]`.
    pub(super) scales: Value,
    /// `[rows * ceil(blocks / 2)]` packed, or `[rows * blocks]` floats.
    pub(super) zero_points: Option<Value>,
}
