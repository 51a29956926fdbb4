//! Linear layers: one node each, whatever the weights are stored as.

use super::{Exporter, Storage};
use crate::checkpoint::Tensor;
use crate::error::Result;
use crate::onnx::{Attribute, Dim, Element, Value, dims};
use crate::quantise::{Recipe, ZeroPoints, quantise, to_f16};

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
        let name = format!("{module}.weight");
        let product = self.product(module, &name, x, weight, self.precision.linear)?;
        let product = match bias {
            None => product,
            Some(bias) => {
                let name = format!("{module}.bias");
                let bias = self.graph.constant_f32(&name, &bias.shape, &bias.data)?;
                self.add(&format!("{module}.add_bias"), &product, &bias)
            }
        };
        self.adapted(module, x, product)
    }

    /// `x · weightᵀ` by a node called `node`, with the weight `[out, in]` called `name` stored as `storage` says.
    pub(super) fn product(
        &mut self,
        node: &str,
        name: &str,
        x: &Value,
        weight: Tensor,
        storage: Storage,
    ) -> Result<Value> {
        let weight = match storage {
            Storage::F32 => {
                let weight = weight.transposed();
                self.graph.constant_f32(name, &weight.shape, &weight.data)?
            }
            Storage::F16 => {
                let half = self.constant_f16(name, weight.transposed())?;
                self.widened(&half)
            }
            Storage::Blocks(recipe) => {
                let blocks = self.blocks(name, &weight, recipe, Layout::Linear)?;
                return Ok(self.block_product(node, x, &blocks));
            }
        };
        Ok(self.graph.op("MatMul", node, &[x, &weight], &[]))
    }

    /// Quantises a matrix `[rows, cols]` and stores its parts in the shapes of `layout`.
    pub(super) fn blocks(
        &mut self,
        name: &str,
        weight: &Tensor,
        recipe: Recipe,
        layout: Layout,
    ) -> Result<Blocks> {
        let (rows, cols) = match weight.shape[..] {
            [rows, cols] => (rows, cols),
            _ => (1, weight.data.len()),
        };
        let block = self.precision.block;
        let rounded = self.rounded.get(name).cloned();
        let matrix = rounded.unwrap_or_else(|| quantise(&weight.data, rows, cols, recipe, block));
        let [codes, scales, zeros] = layout.shapes(rows, cols, matrix.bits, block);
        let graph = &mut self.graph;
        let codes = graph.constant(name, Element::U8, &codes, &matrix.codes)?;
        let scales = graph.constant_f32(&format!("{name}.scales"), &scales, &matrix.scales)?;
        let name = format!("{name}.zero_points");
        let zero_points = match matrix.zero_points {
            ZeroPoints::Middle => None,
            ZeroPoints::Packed(packed) => {
                Some(graph.constant(&name, Element::U8, &zeros, &packed)?)
            }
            ZeroPoints::Float(zeros) => Some(graph.constant_f32(&name, &[zeros.len()], &zeros)?),
        };
        Ok(Blocks {
            bits: matrix.bits,
            rows,
            cols,
            block,
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
            Attribute::int("block_size", weight.block as i64),
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

/// Which operator's shapes the parts of a matrix have. The bytes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `MatMulNBits`.
    Linear,
    /// `GatherBlockQuantized`.
    Rows,
}

impl Layout {
    /// Shapes of codes, scales and packed zero points of a matrix `[rows, cols]` in blocks of `block` columns.
    pub(super) fn shapes(
        self,
        rows: usize,
        cols: usize,
        bits: usize,
        block: usize,
    ) -> [Vec<usize>; 3] {
        let blocks = cols.div_ceil(block);
        let (block_bytes, zero_bytes) = (block * bits / 8, blocks.div_ceil(2));
        match self {
            Self::Linear => [
                vec![rows, blocks, block_bytes],
                vec![rows * blocks],
                vec![rows * zero_bytes],
            ],
            Self::Rows => [
                vec![rows, blocks * block_bytes],
                vec![rows, blocks],
                vec![rows, zero_bytes],
            ],
        }
    }
}

/// A stored matrix in blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bits of a code.
    pub(super) bits: usize,
    /// Outputs.
    pub(super) rows: usize,
    /// Inputs.
    pub(super) cols: usize,
    /// Columns that share a scale.
    pub(super) block: usize,
    /// Codes, scales and, if there are any, zero points; floats are always `[rows * blocks]`.
    pub(super) codes: Value,
    /// See `codes`.
    pub(super) scales: Value,
    /// See `codes`.
    pub(super) zero_points: Option<Value>,
}
