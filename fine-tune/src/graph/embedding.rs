//! The token embedding and the output head, which often are one matrix: then it is stored once.

use super::linear::Blocks;
use super::{Exporter, Storage};
use crate::error::Result;
use crate::onnx::{Attribute, Dim, Value, dims};
use crate::quantise::{BLOCK, Recipe};

/// The stored embedding, kept so that a tied head can use it.
pub(super) enum Embedding {
    /// `[vocab, hidden]`, f32 or f16.
    Dense(Value),
    /// In blocks.
    Blocks(Blocks),
}

impl Exporter<'_> {
    /// Rows of the table called `name` for the token ids: `[batch, sequence, hidden]`.
    pub(super) fn embed(&mut self, name: &str, ids: &Value) -> Result<(Value, Embedding)> {
        let table = self.tensor(name)?;
        let node = name.trim_end_matches(".weight");
        match self.precision.embedding {
            Storage::F32 => {
                let table = self.graph.constant_f32(name, &table.shape, &table.data)?;
                let rows = self.graph.op("Gather", node, &[&table, ids], &[]);
                Ok((rows, Embedding::Dense(table)))
            }
            Storage::F16 => {
                let table = self.constant_f16(name, table)?;
                let rows = self.graph.op("Gather", node, &[&table, ids], &[]);
                Ok((self.widened(&rows), Embedding::Dense(table)))
            }
            Storage::Blocks(recipe) => {
                // GatherBlockQuantized has no float zero points.
                let recipe = match recipe {
                    Recipe::FourBitsFloatZero => Recipe::FourBits,
                    other => other,
                };
                let blocks = self.blocks(name, &table, recipe)?;
                Ok((
                    self.gather_blocks(node, &blocks, ids),
                    Embedding::Blocks(blocks),
                ))
            }
        }
    }

    /// The logits: `x` times the embedding when it is tied, else the linear layer `lm_head`.
    pub(super) fn head(&mut self, x: &Value, embedding: &Embedding, tied: bool) -> Result<Value> {
        if !tied {
            let weight = self.tensor("lm_head.weight")?;
            return self.product("logits", x, weight, self.precision.embedding);
        }
        let table = match embedding {
            Embedding::Blocks(blocks) => return Ok(self.block_product("logits", x, blocks)),
            Embedding::Dense(table) if self.precision.embedding == Storage::F16 => {
                self.widened(table)
            }
            Embedding::Dense(table) => table.clone(),
        };
        let name = format!("{}.transposed", table.name());
        let weight = self.graph.op("Transpose", &name, &[&table], &[]);
        Ok(self.graph.op("MatMul", "logits", &[x, &weight], &[]))
    }

    /// Looks rows up in a table in blocks. The node wants the same bytes as `MatMulNBits` in other shapes.
    fn gather_blocks(&mut self, node: &str, table: &Blocks, ids: &Value) -> Value {
        let per_row = table.cols.div_ceil(BLOCK);
        let mut view = |value: &Value, width: usize| {
            let name = format!("{}.rows", value.name());
            self.graph
                .share(&name, &[table.rows, width], value)
                .unwrap_or_else(|| value.clone())
        };
        let codes = view(&table.codes, per_row * BLOCK * table.bits / 8);
        let scales = view(&table.scales, per_row);
        let zero_points = table
            .zero_points
            .as_ref()
            .map(|zeros| view(zeros, per_row.div_ceil(2)));
        let mut inputs = vec![Some(&codes), Some(ids), Some(&scales)];
        inputs.extend(zero_points.iter().map(Some));
        let attributes = [
            Attribute::int("bits", table.bits as i64),
            Attribute::int("block_size", BLOCK as i64),
            Attribute::int("gather_axis", 0),
            Attribute::int("quantize_axis", 1),
        ];
        let shape = [dims::BATCH, dims::SEQUENCE, Dim::Size(table.cols)];
        self.graph
            .microsoft_op("GatherBlockQuantized", node, &inputs, &attributes, &shape)
    }
}
