//! Says the nodes of a rewritten graph, in the order of evaluation, as ops of a plan.

use std::collections::HashMap;
use std::path::Path;

mod attention;
mod grid;
mod linear;
mod sentence;
mod sums;
mod values;

use furlong_core::IsaKind;
use furlong_core::plan::{Activation, BufferId, Content, Index, Op, Rows, TensorId};
use tract_core::internal::*;

use super::constants;
use super::program::{ALWAYS, Extent, Program};
use crate::Error;
use crate::encode::Pooling;
use crate::ops::spec_index;
use crate::pool::Pool;
use crate::rewrite::{self, LinearSpec, NormKind, NormSpec, OpSpec, WeightSource};
use crate::weights::Contents;
use grid::Grid;
use sentence::Implied;

/// What a value of the graph is to the plan.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// The token ids.
    Tokens,
    /// The tokens' positions.
    Positions,
    /// Floats, a row for each token, or one for all.
    Floats(BufferId),
    /// Features that are not rows yet.
    Grid(Grid),
    /// What follows from a sentence being whole and alone.
    Implied(Implied),
}

/// What comes out of a program.
#[derive(Clone, Copy)]
pub(super) enum Ending<'s> {
    /// The logits that a layer makes of the last token's state.
    Head(&'s LinearSpec),
    /// One row for the sentence: the graph's own, or this where it has none.
    Pooled(Pooling),
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
    /// What is made of the graph's output.
    pub ending: Ending<'s>,
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
    /// Entries of the table that tokens are looked up in.
    vocabulary: usize,
    /// What the graph reads in the place of tokens.
    features: Option<BufferId>,
}

/// What a program works with beside its ops.
pub(super) struct Emitted {
    pub program: Program,
    /// The tokens, or the features.
    pub input: BufferId,
    /// Whether these are features.
    pub reads_features: bool,
    /// One row: logits, or what stands for a sentence.
    pub output: BufferId,
    /// How many tokens the model knows.
    pub vocabulary: usize,
}

/// The program of a graph.
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
        vocabulary: 0,
        features: None,
    };
    let failed = |error: TractError| Error::graph(source.path, &error);
    for id in source.graph.eval_order().map_err(failed)? {
        emitter.node(source.graph.node(id))?;
    }
    let output = emitter.ending()?;
    let vocabulary = match source.ending {
        Ending::Head(head) => head.rows(),
        Ending::Pooled(_) => emitter.vocabulary,
    };
    let mut program = emitter.program;
    let input = match emitter.features {
        Some(features) => {
            program.keep(features, (0, 0));
            features
        }
        None => {
            let tokens = program.buffer("tokens", Content::Words, Extent::Context(1), 1);
            program.keep(tokens, ALWAYS);
            tokens
        }
    };
    Ok(Emitted {
        program,
        input,
        reads_features: emitter.features.is_some(),
        output,
        vocabulary,
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
            "Cast" | "Identity" => self.pass(node),
            "Add" => self.add(node),
            _ if !self.is_read(node) || is_shape(node) => Ok(()),
            _ => match self.around_layers(node) {
                Some(lowered) => lowered,
                None => Err(self.unsupported_node(node)),
            },
        }
    }

    fn unsupported_node(&self, node: &TypedNode) -> Error {
        let what = format!("node {:?} is the operator {}", node.name, node.op.name());
        self.unsupported(&what)
    }

    /// A node that leaves its input as it is.
    fn pass(&mut self, node: &TypedNode) -> Result<(), Error> {
        let input = node.inputs.first().copied();
        match input.and_then(|input| self.values.get(&input).copied()) {
            Some(Value::Floats(_)) => {
                let buffer = self.take(node, 0)?;
                self.give(node, 0, buffer);
            }
            Some(Value::Grid(_)) => return Err(self.unsupported_node(node)),
            Some(value) => {
                self.values.insert(OutletId::new(node.id, 0), value);
            }
            None => {}
        }
        Ok(())
    }

    fn input(&mut self, node: &TypedNode) -> Result<(), Error> {
        let value = match node.name.as_str() {
            "input_ids" => Value::Tokens,
            "position_ids" => Value::Positions,
            // A sentence comes alone, all of it, and none of it is a second sentence.
            "attention_mask" => Value::Implied(Implied::Uniform(1.0)),
            "token_type_ids" => Value::Implied(Implied::Uniform(0.0)),
            _ if !self.is_read(node) => return Ok(()),
            _ if node
                .outputs
                .iter()
                .all(|output| output.fact.datum_type == f32::datum_type()) =>
            {
                return self.features(node);
            }
            name => return Err(self.unsupported(&format!("the graph reads an input {name:?}"))),
        };
        self.values.insert(OutletId::new(node.id, 0), value);
        Ok(())
    }

    fn spec(&mut self, node: &TypedNode, index: usize, spec: &'s OpSpec) -> Result<(), Error> {
        match spec {
            OpSpec::Gather(table, _) => self.gather(node, table),
            OpSpec::Norm(norm) => self.norm(node, norm),
            OpSpec::Linear(linear) => {
                let x = self.take(node, 0)?;
                let out = self.floats_like(&node.name, x, linear.rows());
                self.linear(&node.name, x, index, Rows::All, out)?;
                self.give(node, 0, out);
                Ok(())
            }
            OpSpec::Gated(_, activation) => self.gated(node, index, *activation),
            OpSpec::Attention(attention) => self.attention(node, attention),
            OpSpec::Activation(activation) => self.activate(node, activation_of(*activation)),
            OpSpec::SelfAttention(attention) => self.self_attention(node, attention),
            OpSpec::Int8Linear(linear) => {
                let x = self.take(node, 0)?;
                let out = self.int8_linear(&node.name, x, linear)?;
                self.give(node, 0, out);
                Ok(())
            }
            OpSpec::Taken => Err(self.unsupported("a node without a description")),
        }
    }

    fn activate(&mut self, node: &TypedNode, activation: Activation) -> Result<(), Error> {
        let seen = match self.value(node, 0) {
            Some(Value::Grid(grid)) => Some(grid),
            _ => None,
        };
        let x = match seen {
            Some(grid) => grid.read(self),
            None => self.take(node, 0)?,
        };
        let x = self.own(&node.name, x);
        self.program
            .push(&node.name, Op::Activate { activation, x });
        match seen {
            Some(grid) => self.give_grid(node, grid.of(x)),
            None => self.give(node, 0, x),
        }
        Ok(())
    }

    fn gather(&mut self, node: &TypedNode, source: &'s WeightSource) -> Result<(), Error> {
        let value = node.inputs.first().and_then(|input| self.values.get(input));
        let index = match value {
            Some(Value::Tokens) => Index::Token,
            Some(Value::Positions) => Index::Position,
            Some(Value::Implied(Implied::Uniform(0.0))) => Index::First,
            _ => {
                let what = format!("node {:?} looks up something else than tokens", node.name);
                return Err(self.unsupported(&what));
            }
        };
        if index == Index::Token {
            self.vocabulary = source.rows;
        }
        let tied = match self.source.ending {
            Ending::Head(LinearSpec { parts }) => match parts.as_slice() {
                [only] => only.weights.is_same_as(source),
                _ => false,
            },
            Ending::Pooled(_) => false,
        };
        let contents: &'s Contents<'s> = self.source.contents;
        let head = contents.layers.last().and_then(|matrices| matrices.first());
        let table = match head.filter(|_| tied) {
            Some(matrix) => self.matrix(matrix)?.0,
            None => {
                let rows = match index {
                    Index::Token => source.rows,
                    Index::Position => self.source.context,
                    Index::First => 1,
                };
                let table = constants::table(&node.name, source, rows);
                let table = table.map_err(|error| error.of(self.source.path))?;
                self.program.tensor(table)
            }
        };
        let out = self.floats_of(&node.name, Extent::Tiles(1), source.cols);
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
        let out = self.floats_like(&node.name, x, spec.gain.len());
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

    /// What is made of the graph's output: logits of the last token alone, or one row for the sentence.
    fn ending(&mut self) -> Result<BufferId, Error> {
        let outputs = self.source.graph.output_outlets().unwrap_or_default();
        let hidden = outputs.first().and_then(|output| self.values.get(output));
        let Some(&Value::Floats(hidden)) = hidden else {
            return Err(self.unsupported("the graph's output is no hidden state"));
        };
        self.program.head = self.program.ops.len();
        let head = match self.source.ending {
            Ending::Head(head) => head,
            // The graph has pooled by itself.
            Ending::Pooled(_) if self.extent(hidden) == Extent::Fixed(1) => return Ok(hidden),
            Ending::Pooled(Pooling { first, normalise }) => {
                return Ok(self.pooled("sentence embedding", hidden, first, normalise));
            }
        };
        let logits = self.floats_of("logits", Extent::Fixed(1), head.rows());
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
}

/// Whether a node computes with shapes: what becomes of them is known before there is a plan.
fn is_shape(node: &TypedNode) -> bool {
    let mut outputs = node.outputs.iter();
    outputs.all(|output| output.fact.datum_type == TDim::datum_type())
}

fn activation_of(activation: rewrite::Activation) -> Activation {
    match activation {
        rewrite::Activation::Silu => Activation::Silu,
        rewrite::Activation::GeluErf => Activation::GeluErf,
        rewrite::Activation::GeluTanh => Activation::GeluTanh,
    }
}
