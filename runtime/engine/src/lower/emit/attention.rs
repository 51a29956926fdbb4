//! Attention as ops: over a cache, or of a sentence over itself.

use furlong_core::attention::{TiledShape, tiled_scratch};
use furlong_core::plan::{Columns, Content, Heads, Kept, Op, Rope, TensorFormat};
use furlong_core::rope::RopePairs;
use tract_core::internal::*;

use super::super::program::{ALWAYS, Extent, PlannedTensor};
use super::Emitter;
use crate::Error;
use crate::rewrite::{AttentionInputs, AttentionSpec, HeadNorm, RopeTable, SelfAttentionSpec};

impl<'s> Emitter<'s> {
    pub(super) fn attention(
        &mut self,
        node: &TypedNode,
        spec: &'s AttentionSpec,
    ) -> Result<(), Error> {
        let name = node.name.as_str();
        let heads = |count: usize| -> Result<Heads, Error> {
            Ok(Heads {
                count: self.column(count)?,
                dim: self.column(spec.head_dim)?,
            })
        };
        let (query_heads, kv_heads) = (heads(spec.heads)?, heads(spec.kv_heads)?);
        let turned = |norm: &Option<HeadNorm>| spec.rope.is_some() || norm.is_some();
        let changes = [turned(&spec.query_norm), turned(&spec.key_norm), false];
        let starts = [
            0,
            spec.query_columns(),
            spec.query_columns() + spec.kv_columns(),
        ];
        let [queries, keys, values] = self.operands(node, spec.inputs, starts, changes)?;
        let rope = spec.rope.as_ref().map(|table| self.rope(name, table));
        for (x, heads, norm) in [
            (queries, query_heads, &spec.query_norm),
            (keys, kv_heads, &spec.key_norm),
        ] {
            if !turned(norm) {
                continue;
            }
            let gain = norm.as_ref().map(|norm| self.vector(name, &norm.gain));
            let op = Op::Place {
                x,
                heads,
                gain,
                epsilon: norm.as_ref().map_or(0.0, |norm| norm.epsilon),
                rope,
            };
            self.program.push(name, op);
        }
        let mut caches = [keys.buffer; 2];
        let parts = [(keys, Kept::Keys), (values, Kept::Values)];
        for (cache, (from, kept)) in caches.iter_mut().zip(parts) {
            let extent = Extent::Context(spec.kv_heads);
            let what = match kept {
                Kept::Keys => "keys",
                Kept::Values => "values",
            };
            let title = format!("{what} of layer {}", spec.layer);
            *cache = self
                .program
                .buffer(title, Content::Cache, extent, spec.head_dim);
            self.program.keep(*cache, ALWAYS);
            let heads = kv_heads;
            let op = Op::Append {
                from,
                heads,
                cache: *cache,
                kept,
            };
            self.program.push(name, op);
        }
        let out = self.floats_like(name, queries.buffer, spec.query_columns());
        let op = Op::Attend {
            queries,
            heads: query_heads,
            kv_heads: kv_heads.count,
            keys: caches[0],
            values: caches[1],
            out,
            scale: spec.scale,
            softcap: spec.softcap.unwrap_or(0.0),
            window: spec
                .window
                .map_or(0, |window| window.try_into().unwrap_or(u32::MAX)),
        };
        self.program.push(name, op);
        self.give(node, 0, out);
        Ok(())
    }

    fn rope(&mut self, name: &str, table: &'s RopeTable) -> Rope {
        let half = (table.rotary_dim / 2).max(1);
        let mut part = |values: &'s [f32], what: &str| match self.vectors.get(&values.as_ptr()) {
            Some(&known) => known,
            None => {
                let id = self.program.tensor(PlannedTensor {
                    name: format!("{name}, {what}"),
                    format: TensorFormat::Floats,
                    rows: values.len() / half,
                    columns: half,
                    bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                });
                self.vectors.insert(values.as_ptr(), id);
                id
            }
        };
        Rope {
            cos: part(&table.cos, "cosines"),
            sin: part(&table.sin, "sines"),
            pairs: match table.interleaved {
                true => RopePairs::Neighbours,
                false => RopePairs::Halves,
            },
        }
    }

    /// Attention of all tokens over all of them.
    pub(super) fn self_attention(
        &mut self,
        node: &TypedNode,
        spec: &SelfAttentionSpec,
    ) -> Result<(), Error> {
        let name = node.name.as_str();
        if spec.masked {
            self.hides_nothing(node, spec.inputs.count())?;
        }
        let queries = spec.heads * spec.head_dim;
        let starts = [0, queries, queries + spec.kv_heads * spec.head_dim];
        let [queries, keys, values] = self.operands(node, spec.inputs, starts, [false; 3])?;
        // What scratch a position and a column take is the kernel's own affair; it is the same for all of them.
        let dims = spec.head_dim + spec.value_dim;
        let shape = TiledShape {
            tokens: 1,
            positions: 1,
            head_dim: spec.head_dim,
            value_dim: spec.value_dim,
            query_stride: 0,
            key_stride: 0,
            value_stride: 0,
            scale: 0.0,
        };
        let refuse = |error| self.unsupported(&format!("node {name:?}: {error}"));
        let columns = tiled_scratch(&shape).map_err(refuse)? / (dims + 1);
        let extent = match self.extent(queries.buffer) {
            Extent::Fixed(rows) => Extent::Fixed(rows + dims),
            _ => Extent::TileAnd(dims),
        };
        let title = format!("{name}, scores");
        let scratch = self.program.buffer(title, Content::Floats, extent, columns);
        let out = self.floats_like(name, queries.buffer, spec.heads * spec.value_dim);
        let op = Op::SelfAttend {
            queries,
            keys,
            values,
            heads: Heads {
                count: self.column(spec.heads)?,
                dim: self.column(spec.head_dim)?,
            },
            kv_heads: self.column(spec.kv_heads)?,
            value_dim: self.column(spec.value_dim)?,
            scale: spec.scale,
            scratch,
            out,
        };
        self.program.push(name, op);
        self.give(node, 0, out);
        Ok(())
    }

    /// Where attention finds queries, keys and values, which start at these columns if they are in one buffer; a buffer of its
    /// own for what is going to change.
    fn operands(
        &mut self,
        node: &TypedNode,
        inputs: AttentionInputs,
        starts: [usize; 3],
        changes: [bool; 3],
    ) -> Result<[Columns; 3], Error> {
        let name = node.name.as_str();
        let buffers = match inputs {
            AttentionInputs::Separate => {
                let mut buffers = Vec::with_capacity(3);
                for (slot, change) in changes.into_iter().enumerate() {
                    let buffer = self.take(node, slot)?;
                    buffers.push(if change {
                        self.own(name, buffer)
                    } else {
                        buffer
                    });
                }
                buffers
            }
            AttentionInputs::Packed => {
                let buffer = self.take(node, 0)?;
                let change = changes.contains(&true);
                vec![
                    if change {
                        self.own(name, buffer)
                    } else {
                        buffer
                    };
                    3
                ]
            }
        };
        let &[queries, keys, values] = buffers.as_slice() else {
            return Err(self.unsupported("attention without operands"));
        };
        let starts = match inputs {
            AttentionInputs::Separate => [0; 3],
            AttentionInputs::Packed => starts,
        };
        let [query, key, value] = starts;
        let columns = |buffer, start| {
            let column = self.column(start)?;
            Ok::<_, Error>(Columns { buffer, column })
        };
        Ok([
            columns(queries, query)?,
            columns(keys, key)?,
            columns(values, value)?,
        ])
    }
}
