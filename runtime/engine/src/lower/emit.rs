//! Says the nodes of a rewritten graph, in the order of evaluation, as ops of a plan.

use std::collections::HashMap;
use std::path::Path;

use furlong_core::IsaKind;
use furlong_core::linear::activation_bytes;
use furlong_core::plan::{
    Activation, BufferId, Columns, Content, Heads, Index, Kept, Op, Rope, Rows, TensorFormat,
    TensorId,
};
use furlong_core::rope::RopePairs;
use tract_core::internal::*;

use super::constants;
use super::program::{ALWAYS, Extent, PlannedTensor, Program};
use crate::Error;
use crate::ops::spec_index;
use crate::pool::Pool;
use crate::rewrite::{
    self, AttentionInputs, AttentionSpec, HeadNorm, LinearSpec, NormKind, NormSpec, OpSpec,
    RopeTable, WeightSource,
};
use crate::weights::{Contents, Matrix};

/// Rows of the two matrices of a gated layer that are computed before they are joined.
const GATED_ROWS: usize = 64;

/// What a value of the graph is to the plan.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// The token ids.
    Tokens,
    /// The tokens' positions.
    Positions,
    /// Floats, a row for each token.
    Floats(BufferId),
}

/// What there is to lower.
#[derive(Clone, Copy)]
pub(super) struct Source<'s> {
    /// Names the model in errors.
    pub path: &'s Path,
    /// The typed graph, with placeholders for our ops.
    pub graph: &'s TypedModel,
    /// What they stand for.
    pub specs: &'s [OpSpec],
    /// The matrices of each, those of the head last.
    pub contents: &'s Contents<'s>,
    /// The layer that makes the logits.
    pub head: &'s LinearSpec,
    /// What weights are packed for.
    pub isa: IsaKind,
    /// Most positions.
    pub context: usize,
    /// Packs weights.
    pub pool: &'s Pool,
}

/// A program in the making.
pub(super) struct Emitter<'s> {
    source: Source<'s>,
    program: Program,
    values: HashMap<OutletId, Value>,
    /// How many nodes are still to read a buffer.
    readers: HashMap<BufferId, usize>,
    /// Matrices that are in the image, by where they lie in the contents, and their biases.
    matrices: HashMap<usize, (TensorId, Option<TensorId>)>,
    /// Vectors that are in the image, by where they lie in memory.
    vectors: HashMap<*const f32, TensorId>,
}

/// What a decoder's program works with beside its ops.
pub(super) struct Emitted {
    pub program: Program,
    pub tokens: BufferId,
    pub logits: BufferId,
}

/// The program of a decoder.
///
/// # Errors
/// [`Error::Unsupported`] for a graph with something that plans have no op for.
pub(super) fn emit(source: Source<'_>) -> Result<Emitted, Error> {
    let mut emitter = Emitter {
        source,
        program: Program::default(),
        values: HashMap::new(),
        readers: HashMap::new(),
        matrices: HashMap::new(),
        vectors: HashMap::new(),
    };
    let failed = |error: TractError| Error::graph(source.path, &error);
    for id in source.graph.eval_order().map_err(failed)? {
        emitter.node(source.graph.node(id))?;
    }
    let logits = emitter.head()?;
    let mut program = emitter.program;
    let tokens = program.buffer("tokens", Content::Words, Extent::Context(1), 1);
    program.keep(tokens, ALWAYS);
    Ok(Emitted {
        program,
        tokens,
        logits,
    })
}

impl<'s> Emitter<'s> {
    fn unsupported(&self, what: &str) -> Error {
        let reason =
            format!("{what}, which plans can't hold yet; run this model on a board with Linux");
        Error::unsupported(self.source.path, reason)
    }

    fn node(&mut self, node: &TypedNode) -> Result<(), Error> {
        if let Some(index) = spec_index(node.op.as_ref()) {
            let specs: &'s [OpSpec] = self.source.specs;
            return match specs.get(index) {
                Some(spec) => self.spec(node, index, spec),
                None => Err(self.unsupported("a node without a description")),
            };
        }
        match node.op.name().as_ref() {
            "Source" => self.input(node),
            "Const" => Ok(()),
            "Cast" | "Identity" => {
                let input = node.inputs.first().copied();
                match input.and_then(|input| self.values.get(&input).copied()) {
                    Some(Value::Floats(_)) => {
                        let buffer = self.take(node, 0)?;
                        self.give(node, 0, buffer);
                    }
                    Some(value) => {
                        self.values.insert(OutletId::new(node.id, 0), value);
                    }
                    None => {}
                }
                Ok(())
            }
            "Add" => self.add(node),
            _ if self.is_read(node) => {
                let what = format!("node {:?} is the operator {}", node.name, node.op.name());
                Err(self.unsupported(&what))
            }
            _ => Ok(()),
        }
    }

    /// Whether anything comes of a node.
    fn is_read(&self, node: &TypedNode) -> bool {
        let outputs = self.source.graph.output_outlets().unwrap_or_default();
        let is_output = outputs.iter().any(|outlet| outlet.node == node.id);
        is_output
            || node
                .outputs
                .iter()
                .any(|output| !output.successors.is_empty())
    }

    fn input(&mut self, node: &TypedNode) -> Result<(), Error> {
        let value = match node.name.as_str() {
            "input_ids" => Value::Tokens,
            "position_ids" => Value::Positions,
            _ if !self.is_read(node) => return Ok(()),
            name => return Err(self.unsupported(&format!("the graph reads an input {name:?}"))),
        };
        self.values.insert(OutletId::new(node.id, 0), value);
        Ok(())
    }

    /// The floats that a node reads as its input `slot`.
    fn take(&mut self, node: &TypedNode, slot: usize) -> Result<BufferId, Error> {
        let value = node
            .inputs
            .get(slot)
            .and_then(|input| self.values.get(input));
        let Some(&Value::Floats(buffer)) = value else {
            let what = format!(
                "node {:?} reads something else than numbers by token",
                node.name
            );
            return Err(self.unsupported(&what));
        };
        if let Some(readers) = self.readers.get_mut(&buffer) {
            *readers = readers.saturating_sub(1);
        }
        Ok(buffer)
    }

    /// Says where a node's output `slot` is.
    fn give(&mut self, node: &TypedNode, slot: usize, buffer: BufferId) {
        let outlet = OutletId::new(node.id, slot);
        let outputs = self.source.graph.output_outlets().unwrap_or_default();
        let outside = outputs.iter().filter(|output| **output == outlet).count();
        let inside = node
            .outputs
            .get(slot)
            .map_or(0, |output| output.successors.len());
        *self.readers.entry(buffer).or_default() += inside + outside;
        self.values.insert(outlet, Value::Floats(buffer));
    }

    fn columns(&self, buffer: BufferId) -> usize {
        let buffer = self.program.buffers.get(usize::from(buffer.0));
        buffer.map_or(0, |buffer| buffer.columns)
    }

    fn floats(&mut self, name: &str, columns: usize) -> BufferId {
        self.program
            .buffer(name, Content::Floats, Extent::Tiles(1), columns)
    }

    /// The buffer itself if nobody else is going to read it, else a copy.
    fn own(&mut self, node: &str, buffer: BufferId) -> BufferId {
        if self
            .readers
            .get(&buffer)
            .is_none_or(|&readers| readers == 0)
        {
            return buffer;
        }
        let columns = self.columns(buffer);
        let to = self.floats(node, columns);
        self.program.push(node, Op::Copy { to, from: buffer });
        to
    }

    /// Adds one buffer to another, in the place of one of them if it can be.
    fn sum(&mut self, node: &str, a: BufferId, b: BufferId) -> Result<BufferId, Error> {
        if self.columns(a) != self.columns(b) {
            return Err(self.unsupported(&format!("node {node:?} adds rows of different widths")));
        }
        let is_free = |id| self.readers.get(&id).is_none_or(|&readers| readers == 0);
        let (to, from) = match (is_free(a) && a != b, is_free(b) && a != b) {
            (true, _) => (a, b),
            (false, true) => (b, a),
            (false, false) => {
                let columns = self.columns(a);
                let to = self.floats(node, columns);
                self.program.push(node, Op::Copy { to, from: a });
                (to, b)
            }
        };
        self.program.push(node, Op::Add { to, from });
        Ok(to)
    }

    fn add(&mut self, node: &TypedNode) -> Result<(), Error> {
        let constant = |slot: usize| {
            let input = node.inputs.get(slot)?;
            self.source.graph.outlet_fact(*input).ok()?.konst.clone()
        };
        let sum = match (constant(0), constant(1)) {
            (None, None) => {
                let (a, b) = (self.take(node, 0)?, self.take(node, 1)?);
                self.sum(&node.name, a, b)?
            }
            (Some(added), None) => self.add_constant(node, 1, &added)?,
            (None, Some(added)) => self.add_constant(node, 0, &added)?,
            (Some(_), Some(_)) => return Ok(()),
        };
        self.give(node, 0, sum);
        Ok(())
    }

    /// Adds the same row to the row of each token.
    fn add_constant(
        &mut self,
        node: &TypedNode,
        slot: usize,
        added: &Tensor,
    ) -> Result<BufferId, Error> {
        let x = self.take(node, slot)?;
        let columns = self.columns(x);
        let row = added.cast_to::<f32>().ok();
        let row = row.as_ref().and_then(|row| row.try_as_plain_ram().ok());
        let row = row.as_ref().and_then(|row| row.as_slice::<f32>().ok());
        let Some(row) = row.filter(|row| row.len() == columns) else {
            return Err(self.unsupported(&format!(
                "node {:?} adds a constant that is no row",
                node.name
            )));
        };
        let table = self.program.tensor(PlannedTensor {
            name: node.name.clone(),
            format: TensorFormat::Floats,
            rows: 1,
            columns,
            bytes: row.iter().flat_map(|x| x.to_le_bytes()).collect(),
        });
        let out = self.floats(&node.name, columns);
        let index = Index::First;
        self.program
            .push(&node.name, Op::Gather { table, index, out });
        self.sum(&node.name, x, out)
    }

    fn spec(&mut self, node: &TypedNode, index: usize, spec: &'s OpSpec) -> Result<(), Error> {
        match spec {
            OpSpec::Gather(table, _) => self.gather(node, table),
            OpSpec::Norm(norm) => self.norm(node, norm),
            OpSpec::Linear(linear) => {
                let x = self.take(node, 0)?;
                let out = self.floats(&node.name, linear.rows());
                self.linear(&node.name, x, index, Rows::All, out)?;
                self.give(node, 0, out);
                Ok(())
            }
            OpSpec::Gated(_, activation) => self.gated(node, index, *activation),
            OpSpec::Attention(attention) => self.attention(node, attention),
            OpSpec::Activation(activation) => {
                let x = self.take(node, 0)?;
                let x = self.own(&node.name, x);
                let activation = activation_of(*activation);
                self.program
                    .push(&node.name, Op::Activate { activation, x });
                self.give(node, 0, x);
                Ok(())
            }
            OpSpec::SelfAttention(_) | OpSpec::Int8Linear(_) => {
                Err(self.unsupported(&format!("node {:?} is an encoder's", node.name)))
            }
            OpSpec::Taken => Err(self.unsupported("a node without a description")),
        }
    }

    fn gather(&mut self, node: &TypedNode, source: &'s WeightSource) -> Result<(), Error> {
        let value = node.inputs.first().and_then(|input| self.values.get(input));
        let index = match value {
            Some(Value::Tokens) => Index::Token,
            Some(Value::Positions) => Index::Position,
            _ => {
                let what = format!("node {:?} looks up something else than tokens", node.name);
                return Err(self.unsupported(&what));
            }
        };
        let tied = match self.source.head.parts.as_slice() {
            [only] => only.weights.is_same_as(source),
            _ => false,
        };
        let contents: &'s Contents<'s> = self.source.contents;
        let head = contents.layers.last().and_then(|matrices| matrices.first());
        let table = match head.filter(|_| tied) {
            Some(matrix) => self.matrix(matrix)?.0,
            None => {
                let rows = match index {
                    Index::Position => self.source.context,
                    _ => source.rows,
                };
                let table = constants::table(&node.name, source, rows);
                let table = table.map_err(|error| error.of(self.source.path))?;
                self.program.tensor(table)
            }
        };
        let out = self.floats(&node.name, source.cols);
        self.program
            .push(&node.name, Op::Gather { table, index, out });
        self.give(node, 0, out);
        Ok(())
    }

    fn norm(&mut self, node: &TypedNode, spec: &'s NormSpec) -> Result<(), Error> {
        let mut x = self.take(node, 0)?;
        if spec.residual {
            let delta = self.take(node, 1)?;
            x = self.sum(&node.name, x, delta)?;
            self.give(node, 1, x);
        }
        let gain = self.vector(&node.name, &spec.gain);
        let (centred, bias) = match &spec.kind {
            NormKind::Rms => (false, None),
            NormKind::Layer { bias } => (true, bias.as_ref()),
        };
        let bias = bias.map(|bias| self.vector(&node.name, bias));
        let out = self.floats(&node.name, spec.gain.len());
        let op = Op::Norm {
            centred,
            x,
            gain,
            bias,
            epsilon: spec.epsilon,
            out,
        };
        self.program.push(&node.name, op);
        self.give(node, 0, out);
        Ok(())
    }

    /// Multiplies `x` by the matrices of layer `index`, side by side into `out`.
    fn linear(
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
                _ => self.prepare(node, x, matrix, weights, rows)?,
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

    fn prepare(
        &mut self,
        node: &str,
        x: BufferId,
        matrix: &Matrix<'_>,
        weights: TensorId,
        rows: Rows,
    ) -> Result<BufferId, Error> {
        let (format, isa) = (matrix.layout.format(), self.source.isa);
        let bytes = activation_bytes(format, isa, 1, matrix.cols);
        let bytes = bytes.map_err(|error| self.unsupported(&format!("node {node:?}: {error}")))?;
        let extent = match rows {
            Rows::All => Extent::Tiles(1),
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

    fn gated(
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
        let activations = self.prepare(name, x, gate, gate_weights, Rows::All)?;
        let width = GATED_ROWS.min(rows.next_multiple_of(16));
        let scratch_name = format!("{name}, before it is joined");
        let tiles = Extent::Tiles(2);
        let scratch = self
            .program
            .buffer(scratch_name, Content::Floats, tiles, width);
        let out = self.floats(name, rows);
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

    fn attention(&mut self, node: &TypedNode, spec: &'s AttentionSpec) -> Result<(), Error> {
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
        let mut operands = [None; 3];
        match spec.inputs {
            AttentionInputs::Separate => {
                for (slot, (operand, change)) in operands.iter_mut().zip(changes).enumerate() {
                    let buffer = self.take(node, slot)?;
                    let buffer = if change {
                        self.own(name, buffer)
                    } else {
                        buffer
                    };
                    *operand = Some(Columns { buffer, column: 0 });
                }
            }
            AttentionInputs::Packed => {
                let buffer = self.take(node, 0)?;
                let buffer = if changes[0] || changes[1] {
                    self.own(name, buffer)
                } else {
                    buffer
                };
                let starts = [
                    0,
                    spec.query_columns(),
                    spec.query_columns() + spec.kv_columns(),
                ];
                for (operand, start) in operands.iter_mut().zip(starts) {
                    let column = self.column(start)?;
                    *operand = Some(Columns { buffer, column });
                }
            }
        }
        let [Some(queries), Some(keys), Some(values)] = operands else {
            return Err(self.unsupported("attention without operands"));
        };
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
        let out = self.floats(name, spec.query_columns());
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

    /// The layer that makes the logits, from the last token alone.
    fn head(&mut self) -> Result<BufferId, Error> {
        let outputs = self.source.graph.output_outlets().unwrap_or_default();
        let hidden = outputs.first().and_then(|output| self.values.get(output));
        let Some(&Value::Floats(hidden)) = hidden else {
            return Err(self.unsupported("the graph's output is no hidden state"));
        };
        self.program.head = self.program.ops.len();
        let rows = self.source.head.rows();
        let logits = self
            .program
            .buffer("logits", Content::Floats, Extent::Fixed(1), rows);
        let index = self.source.contents.layers.len().saturating_sub(1);
        self.linear("head", hidden, index, Rows::Last, logits)?;
        Ok(logits)
    }

    fn column(&self, column: usize) -> Result<u16, Error> {
        u16::try_from(column).map_err(|_| self.unsupported("a layer of more than 65535 columns"))
    }

    /// A vector of floats in the image; the same one twice is there once.
    fn vector(&mut self, name: &str, values: &'s [f32]) -> TensorId {
        if let Some(&known) = self.vectors.get(&values.as_ptr()) {
            return known;
        }
        let id = self.program.tensor(constants::vector(name, values));
        self.vectors.insert(values.as_ptr(), id);
        id
    }

    /// A packed matrix in the image, and its bias.
    fn matrix(&mut self, matrix: &Matrix<'s>) -> Result<(TensorId, Option<TensorId>), Error> {
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

fn activation_of(activation: rewrite::Activation) -> Activation {
    match activation {
        rewrite::Activation::Silu => Activation::Silu,
        rewrite::Activation::GeluErf => Activation::GeluErf,
        rewrite::Activation::GeluTanh => Activation::GeluTanh,
    }
}
