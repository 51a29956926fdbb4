//! How positions enter a graph: rotation of queries and keys, or a table added to the embedding.

use super::Exporter;
use crate::architecture::{DecoderConfig, Positions, Rotary, sinusoidal_table};
use crate::error::Result;
use crate::onnx::{Attribute, Value};

/// The tables of cosines and sines, each `[context, dims / 2]`, shared by all layers.
pub(super) struct RotaryTables {
    cos: Value,
    sin: Value,
    dims: usize,
}

impl Exporter<'_> {
    /// Stores the rotary tables for `context` positions.
    pub(super) fn rotary_tables(
        &mut self,
        rotary: &Rotary,
        context: usize,
    ) -> Result<RotaryTables> {
        let (cos, sin) = rotary.tables(context);
        let shape = [context, rotary.dims / 2];
        let cos = self.graph.constant_f32("rotary.cos", &shape, &cos)?;
        let sin = self.graph.constant_f32("rotary.sin", &shape, &sin)?;
        Ok(RotaryTables {
            cos,
            sin,
            dims: rotary.dims,
        })
    }

    /// Rotates `x`, `[batch, sequence, heads * head_dim]`, by its positions.
    pub(super) fn rotate(
        &mut self,
        name: &str,
        x: &Value,
        positions: &Value,
        tables: &RotaryTables,
        heads: usize,
        head_dim: usize,
    ) -> Value {
        let mut attributes = vec![
            Attribute::int("num_heads", heads as i64),
            Attribute::int("interleaved", 0),
        ];
        if tables.dims < head_dim {
            attributes.push(Attribute::int("rotary_embedding_dim", tables.dims as i64));
        }
        let inputs = [x, &tables.cos, &tables.sin, positions];
        self.graph.op("RotaryEmbedding", name, &inputs, &attributes)
    }

    /// Adds a decoder's position table, where it has one, to the embedded tokens `x`.
    /// `learned` is the name of the trained table.
    pub(super) fn add_positions(
        &mut self,
        config: &DecoderConfig,
        x: Value,
        positions: &Value,
        learned: &str,
    ) -> Result<Value> {
        let Some(table) = self.position_table(
            &config.positions,
            config.context_length,
            config.hidden_size,
            learned,
        )?
        else {
            return Ok(x);
        };
        let rows = self
            .graph
            .op("Gather", "positions", &[&table, positions], &[]);
        Ok(self.add("embedding", &x, &rows))
    }

    /// The table `[context, width]` that is added to the embedding; `None` for rotary positions.
    pub(super) fn position_table(
        &mut self,
        positions: &Positions,
        context: usize,
        width: usize,
        learned: &str,
    ) -> Result<Option<Value>> {
        match positions {
            Positions::Rotary(_) => Ok(None),
            Positions::Learned => self.stored(learned).map(Some),
            Positions::Sinusoidal => {
                let table = sinusoidal_table(context, width);
                let shape = [context, width];
                Ok(Some(self.graph.constant_f32(
                    "positions.sinusoidal",
                    &shape,
                    &table,
                )?))
            }
        }
    }
}
