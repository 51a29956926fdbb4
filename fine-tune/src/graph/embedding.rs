//! The token embedding and the output head, which often are one matrix: then it is stored once.

use super::linear::{Blocks, Layout};
use super::{Exporter, Storage};
use crate::error::Result;
use crate::onnx::{Attribute, Dim, Value, dims};
use crate::quantise::Recipe;

/// Name of the head's weight.
const HEAD: &str = "lm_head.weight";
/// Name of the head.
const HEAD_MODULE: &str = "lm_head";
/// Name of what the head makes.
const LOGITS: &str = "logits";

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
                let blocks = self.blocks(name, &table, recipe, Layout::Rows)?;
                Ok((
                    self.gather_blocks(node, &blocks, ids),
                    Embedding::Blocks(blocks),
                ))
            }
        }
    }

    /// The logits: `x` times the embedding when it is tied, else the linear layer `lm_head`.
    pub(super) fn head(&mut self, x: &Value, embedding: &Embedding, tied: bool) -> Result<Value> {
        let Some(change) = self.change(HEAD_MODULE, x)? else {
            return self.head_product(LOGITS, x, embedding, tied);
        };
        let product = self.head_product(HEAD_MODULE, x, embedding, tied)?;
        Ok(self.add(LOGITS, &product, &change))
    }

    /// The head's product, by a node called `node`.
    fn head_product(
        &mut self,
        node: &str,
        x: &Value,
        embedding: &Embedding,
        tied: bool,
    ) -> Result<Value> {
        if !tied {
            let weight = self.tensor(HEAD)?;
            return self.product(node, HEAD, x, weight, self.precision.embedding);
        }
        let table = match embedding {
            Embedding::Blocks(blocks) => {
                let blocks = self.shared_head(blocks);
                return Ok(self.block_product(node, x, &blocks));
            }
            Embedding::Dense(table) if self.precision.embedding == Storage::F16 => {
                self.widened(table)
            }
            Embedding::Dense(table) => table.clone(),
        };
        let weight = self.graph.op("Transpose", HEAD, &[&table], &[]);
        Ok(self.graph.op("MatMul", node, &[x, &weight], &[]))
    }

    /// Looks rows up in a table in blocks.
    fn gather_blocks(&mut self, node: &str, table: &Blocks, ids: &Value) -> Value {
        let mut inputs = vec![Some(&table.codes), Some(ids), Some(&table.scales)];
        inputs.extend(table.zero_points.iter().map(Some));
        let attributes = [
            Attribute::int("bits", table.bits as i64),
            Attribute::int("block_size", table.block as i64),
            Attribute::int("gather_axis", 0),
            Attribute::int("quantize_axis", 1),
        ];
        let shape = [dims::BATCH, dims::SEQUENCE, Dim::Size(table.cols)];
        self.graph
            .microsoft_op("GatherBlockQuantized", node, &inputs, &attributes, &shape)
    }

    /// The bytes of an embedding once more, in the shapes that a linear layer wants.
    fn shared_head(&mut self, table: &Blocks) -> Blocks {
        let [codes, scales, zero_points] =
            Layout::Linear.shapes(table.rows, table.cols, table.bits, table.block);
        let mut share = |suffix: &str, shape: &[usize], value: &Value| {
            let shared = self.graph.share(&format!("{HEAD}{suffix}"), shape, value);
            shared.unwrap_or_else(|| value.clone())
        };
        Blocks {
            codes: share("", &codes, &table.codes),
            scales: share(".scales", &scales, &table.scales),
            zero_points: (table.zero_points.as_ref())
                .map(|value| share(".zero_points", &zero_points, value)),
            ..*table
        }
    }
}
