//! The ops of a plan: one record of 48 bytes each, small enough steps that a watchdog can be fed between them.

use super::record::{Reader, Writer};
use super::{BufferId, TensorId};
use crate::rope::RopePairs;

/// Bytes of an op's record: kind and flags, eleven operands of 16 bits, six numbers of 32 bits.
pub const OP_BYTES: usize = 48;

/// Which row of a table a token takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Index {
    /// That of its id.
    Token,
    /// That of its position.
    Position,
    /// The first (the type of a sentence that stands alone).
    First,
}

/// Which tokens of a tile an op works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Rows {
    /// All of them.
    All,
    /// The last one: what only the next token's logits need.
    Last,
}

/// What a cache keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kept {
    /// Its keys.
    Keys,
    /// Its values, which lie in another order where a cache has 8 bits.
    Values,
}

/// An element-wise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by the error function.
    GeluErf,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// Hyperbolic tangent: a classifier's pooled token.
    Tanh,
}

/// Cosines and sines by position, `[context or more, rotary columns / 2]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rope {
    /// The cosines.
    pub cos: TensorId,
    /// The sines.
    pub sin: TensorId,
    /// Which columns are turned together.
    pub pairs: RopePairs,
}

/// Some columns of a buffer of floats, from `column` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Columns {
    /// The buffer.
    pub buffer: BufferId,
    /// The first of them.
    pub column: u16,
}

/// Heads that lie side by side: `count` of `dim` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Heads {
    /// How many.
    pub count: u16,
    /// Columns of each.
    pub dim: u16,
}

impl Heads {
    /// Columns of all.
    pub fn columns(self) -> usize {
        usize::from(self.count) * usize::from(self.dim)
    }
}

/// How patches are cut out of numbers `[height, width, channels]`, wherever these lie, for a convolution over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Patches {
    /// Height, width and channels.
    pub size: [u16; 3],
    /// Numbers from one to the next along each of these.
    pub strides: [u32; 3],
    /// Height and width of a patch.
    pub kernel: [u16; 2],
    /// From one patch to the next, down and across.
    pub step: [u16; 2],
    /// Zeros above and to the left.
    pub pad: [u16; 2],
    /// How many patches, down and across.
    pub places: [u32; 2],
}

/// One step of a plan. Shapes: `n` is the number of tokens in the tile, `p` the position of the first. A buffer of fewer rows
/// than the tile has tokens (what was pooled, or what a convolution made fewer) is worked on as it is: `n` are its rows then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Op {
    /// `out[i] = table[index of token i]`, `out` `[n, columns]`.
    Gather {
        /// The table.
        table: TensorId,
        /// Which row.
        index: Index,
        /// Where the rows go.
        out: BufferId,
    },
    /// `to += from`, both `[n, columns]`.
    Add {
        /// The sum.
        to: BufferId,
        /// What is added.
        from: BufferId,
    },
    /// `to = from`, both `[n, columns]`.
    Copy {
        /// The copy.
        to: BufferId,
        /// What is copied.
        from: BufferId,
    },
    /// Normalisation of each row, `[n, columns]`.
    Norm {
        /// Whether the mean is taken out (layer normalisation), or not (RMS).
        centred: bool,
        /// The input.
        x: BufferId,
        /// Factor by column.
        gain: TensorId,
        /// Summand by column, for layer normalisation.
        bias: Option<TensorId>,
        /// Added to the variance.
        epsilon: f32,
        /// The result.
        out: BufferId,
    },
    /// Makes rows ready for the kernel of `weights`: quantises them, mostly.
    Prepare {
        /// `[n, columns]`.
        x: BufferId,
        /// A matrix of as many columns.
        weights: TensorId,
        /// Prepared activations.
        out: BufferId,
        /// Of which tokens.
        rows: Rows,
    },
    /// `out[.., column..] = activations · weightsᵀ + bias`.
    Multiply {
        /// What [`Op::Prepare`] made.
        activations: BufferId,
        /// The matrix.
        weights: TensorId,
        /// `[rows of the matrix]`.
        bias: Option<TensorId>,
        /// Where the products go.
        out: Columns,
        /// Of which tokens.
        rows: Rows,
    },
    /// `out = activation(gate product) ∘ (up product)`, some rows of the matrices at a time.
    Gated {
        /// The function.
        activation: Activation,
        /// What [`Op::Prepare`] made.
        activations: BufferId,
        /// The matrix whose products go through the function.
        gate: TensorId,
        /// The other matrix, of the same shape and format.
        up: TensorId,
        /// `[rows]`.
        gate_bias: Option<TensorId>,
        /// `[rows]`.
        up_bias: Option<TensorId>,
        /// `[2 · n, rows that are computed at a time]`.
        scratch: BufferId,
        /// `[n, rows]`.
        out: BufferId,
    },
    /// In place.
    Activate {
        /// The function.
        activation: Activation,
        /// `[n, columns]`.
        x: BufferId,
    },
    /// Normalises heads and turns them to their positions, in place.
    Place {
        /// Queries or keys.
        x: Columns,
        /// The heads.
        heads: Heads,
        /// RMS normalisation of each head, `[head columns]`.
        gain: Option<TensorId>,
        /// Added to the mean square.
        epsilon: f32,
        /// Rotary positions.
        rope: Option<Rope>,
    },
    /// Writes the keys or the values of a tile into the cache, from position `p` on.
    Append {
        /// Keys or values.
        from: Columns,
        /// The heads.
        heads: Heads,
        /// `[heads, context, head columns]`.
        cache: BufferId,
        /// Which of the two.
        kept: Kept,
    },
    /// Causal attention over the cache.
    Attend {
        /// `[n, query columns]` from a column on.
        queries: Columns,
        /// The query heads.
        heads: Heads,
        /// Key heads; divides the number of query heads.
        kv_heads: u16,
        /// `[kv_heads, context, head columns]`.
        keys: BufferId,
        /// `[kv_heads, context, head columns]`.
        values: BufferId,
        /// `[n, query columns]`.
        out: BufferId,
        /// Factor of the scores.
        scale: f32,
        /// Scores become `softcap · tanh(score / softcap)`; 0 for none.
        softcap: f32,
        /// How many positions back a token sees, itself included; 0 for all.
        window: u32,
    },
    /// Attention of all tokens over all of them.
    SelfAttend {
        /// The queries.
        queries: Columns,
        /// The keys.
        keys: Columns,
        /// The values.
        values: Columns,
        /// The query heads.
        heads: Heads,
        /// Key heads; divides the number of query heads.
        kv_heads: u16,
        /// Columns of a value of one head.
        value_dim: u16,
        /// Factor of the scores.
        scale: f32,
        /// Floats, as many as `tiled_scratch` says.
        scratch: BufferId,
        /// `[n, heads · value_dim]`.
        out: BufferId,
    },
    /// `out[patch] = the numbers of the patch`, by height, width, channel.
    Unfold {
        /// Any numbers, as many as `patches` says.
        x: BufferId,
        /// `[patches, kernel height · kernel width · channels]`.
        out: BufferId,
        /// Where they are.
        patches: Patches,
    },
    /// `out = rows of a constant, and then x`.
    Prepend {
        /// `[some, columns]`.
        table: TensorId,
        /// `[n, columns]`.
        x: BufferId,
        /// `[some + n, columns]`.
        out: BufferId,
    },
    /// One row of many.
    Pool {
        /// `[n, columns]`.
        x: BufferId,
        /// `[1, columns]`.
        out: BufferId,
        /// Takes the first token rather than the mean.
        first: bool,
        /// Scales to length 1.
        normalise: bool,
    },
}

/// A record before it is understood.
#[derive(Default)]
struct Raw {
    kind: u8,
    flags: u8,
    operands: [u16; 11],
    numbers: [u32; 6],
}

impl Raw {
    fn new<const N: usize>(kind: u8, flags: u8, operands: [u16; N]) -> Raw {
        let mut raw = Raw {
            kind,
            flags,
            ..Raw::default()
        };
        let places = raw.operands.iter_mut();
        places.zip(operands).for_each(|(to, operand)| *to = operand);
        raw
    }

    fn with<const N: usize>(mut self, numbers: [u32; N]) -> Raw {
        let places = self.numbers.iter_mut();
        places.zip(numbers).for_each(|(to, number)| *to = number);
        self
    }
}

impl Activation {
    fn code(self) -> u8 {
        match self {
            Activation::Silu => 0,
            Activation::GeluErf => 1,
            Activation::GeluTanh => 2,
            Activation::Tanh => 3,
        }
    }

    fn of(code: u8) -> Option<Activation> {
        match code {
            0 => Some(Activation::Silu),
            1 => Some(Activation::GeluErf),
            2 => Some(Activation::GeluTanh),
            3 => Some(Activation::Tanh),
            _ => None,
        }
    }
}

impl Op {
    /// Names of the kinds, by the code in the record.
    const NAMES: [&'static str; 15] = [
        "gather",
        "add",
        "copy",
        "norm",
        "prepare",
        "multiply",
        "gated",
        "activate",
        "place",
        "append",
        "attend",
        "self-attend",
        "pool",
        "unfold",
        "prepend",
    ];

    /// What kind of op it is, for reports.
    pub fn name(&self) -> &'static str {
        let kind = usize::from(self.raw().kind);
        Op::NAMES.get(kind).copied().unwrap_or("op")
    }

    /// The record in the image.
    pub fn encode(&self) -> [u8; OP_BYTES] {
        let raw = self.raw();
        let writer = Writer::new().u8(raw.kind).u8(raw.flags);
        let writer = raw.operands.into_iter().fold(writer, Writer::u16);
        raw.numbers.into_iter().fold(writer, Writer::u32).finish()
    }

    fn raw(&self) -> Raw {
        let flag = u8::from;
        let last = |rows: Rows| u8::from(rows == Rows::Last);
        match *self {
            Op::Gather { table, index, out } => {
                let index = match index {
                    Index::Token => 0,
                    Index::Position => 1,
                    Index::First => 2,
                };
                Raw::new(0, index, [table.0, out.0])
            }
            Op::Add { to, from } => Raw::new(1, 0, [to.0, from.0]),
            Op::Copy { to, from } => Raw::new(2, 0, [to.0, from.0]),
            Op::Norm {
                centred,
                x,
                gain,
                bias,
                epsilon,
                out,
            } => Raw::new(3, flag(centred), [x.0, gain.0, TensorId::code(bias), out.0])
                .with([epsilon.to_bits()]),
            Op::Prepare {
                x,
                weights,
                out,
                rows,
            } => Raw::new(4, last(rows), [x.0, weights.0, out.0]),
            Op::Multiply {
                activations,
                weights,
                bias,
                out,
                rows,
            } => {
                let bias = TensorId::code(bias);
                let operands = [activations.0, weights.0, bias, out.buffer.0, out.column];
                Raw::new(5, last(rows), operands)
            }
            Op::Gated {
                activation,
                activations,
                gate,
                up,
                gate_bias,
                up_bias,
                scratch,
                out,
            } => {
                let biases = [gate_bias, up_bias].map(TensorId::code);
                let [gate_bias, up_bias] = biases;
                let operands = [
                    activations.0,
                    gate.0,
                    up.0,
                    gate_bias,
                    up_bias,
                    scratch.0,
                    out.0,
                ];
                Raw::new(6, activation.code(), operands)
            }
            Op::Activate { activation, x } => Raw::new(7, activation.code(), [x.0]),
            Op::Place {
                x,
                heads,
                gain,
                epsilon,
                rope,
            } => {
                let neighbours = rope.is_some_and(|rope| rope.pairs == RopePairs::Neighbours);
                let operands = [
                    x.buffer.0,
                    x.column,
                    heads.count,
                    heads.dim,
                    TensorId::code(gain),
                    TensorId::code(rope.map(|rope| rope.cos)),
                    TensorId::code(rope.map(|rope| rope.sin)),
                ];
                Raw::new(8, flag(neighbours), operands).with([epsilon.to_bits()])
            }
            Op::Append {
                from,
                heads,
                cache,
                kept,
            } => {
                let operands = [from.buffer.0, from.column, heads.count, heads.dim, cache.0];
                Raw::new(9, flag(kept == Kept::Values), operands)
            }
            Op::Attend {
                queries,
                heads,
                kv_heads,
                keys,
                values,
                out,
                scale,
                softcap,
                window,
            } => {
                let operands = [
                    queries.buffer.0,
                    queries.column,
                    heads.count,
                    heads.dim,
                    kv_heads,
                    keys.0,
                    values.0,
                    out.0,
                ];
                Raw::new(10, 0, operands).with([scale.to_bits(), softcap.to_bits(), window])
            }
            Op::SelfAttend {
                queries,
                keys,
                values,
                heads,
                kv_heads,
                value_dim,
                scale,
                scratch,
                out,
            } => {
                let operands = [
                    queries.buffer.0,
                    queries.column,
                    keys.buffer.0,
                    keys.column,
                    values.buffer.0,
                    values.column,
                    heads.count,
                    heads.dim,
                    kv_heads,
                    scratch.0,
                    out.0,
                ];
                Raw::new(11, 0, operands).with([scale.to_bits(), u32::from(value_dim)])
            }
            Op::Pool {
                x,
                out,
                first,
                normalise,
            } => Raw::new(12, flag(first) | flag(normalise) << 1, [x.0, out.0]),
            Op::Unfold { x, out, patches } => {
                let Patches {
                    size: [height, width, channels],
                    strides: [down, across, deep],
                    kernel: [tall, wide],
                    step: [lower, further],
                    pad: [top, left],
                    places: [rows, columns],
                } = patches;
                let operands = [
                    x.0, out.0, height, width, channels, tall, wide, lower, further, top, left,
                ];
                Raw::new(13, 0, operands).with([down, across, deep, rows, columns])
            }
            Op::Prepend { table, x, out } => Raw::new(14, 0, [table.0, x.0, out.0]),
        }
    }

    /// Reads a record; `None` for one that is no op's.
    pub(super) fn decode(record: &[u8]) -> Option<Op> {
        let mut reader = Reader::new(record);
        let (kind, flags) = (reader.u8(), reader.u8());
        let [a, b, c, d, e, f, g, h, i, j, k] = [(); 11].map(|()| reader.u16());
        let numbers = [(); 6].map(|()| reader.u32());
        let [number, second, third, fourth, fifth, _] = numbers;
        let columns = |buffer: u16, column: u16| Columns {
            buffer: BufferId(buffer),
            column,
        };
        let heads = |count: u16, dim: u16| Heads { count, dim };
        let rows = match flags & 1 {
            0 => Rows::All,
            _ => Rows::Last,
        };
        Some(match kind {
            0 => Op::Gather {
                table: TensorId(a),
                index: match flags {
                    0 => Index::Token,
                    1 => Index::Position,
                    2 => Index::First,
                    _ => return None,
                },
                out: BufferId(b),
            },
            1 => Op::Add {
                to: BufferId(a),
                from: BufferId(b),
            },
            2 => Op::Copy {
                to: BufferId(a),
                from: BufferId(b),
            },
            3 => Op::Norm {
                centred: flags & 1 == 1,
                x: BufferId(a),
                gain: TensorId(b),
                bias: TensorId::of(c),
                epsilon: f32::from_bits(number),
                out: BufferId(d),
            },
            4 => Op::Prepare {
                x: BufferId(a),
                weights: TensorId(b),
                out: BufferId(c),
                rows,
            },
            5 => Op::Multiply {
                activations: BufferId(a),
                weights: TensorId(b),
                bias: TensorId::of(c),
                out: columns(d, e),
                rows,
            },
            6 => Op::Gated {
                activation: Activation::of(flags)?,
                activations: BufferId(a),
                gate: TensorId(b),
                up: TensorId(c),
                gate_bias: TensorId::of(d),
                up_bias: TensorId::of(e),
                scratch: BufferId(f),
                out: BufferId(g),
            },
            7 => Op::Activate {
                activation: Activation::of(flags)?,
                x: BufferId(a),
            },
            8 => Op::Place {
                x: columns(a, b),
                heads: heads(c, d),
                gain: TensorId::of(e),
                epsilon: f32::from_bits(number),
                rope: match (TensorId::of(f), TensorId::of(g)) {
                    (None, None) => None,
                    (Some(cos), Some(sin)) => Some(Rope {
                        cos,
                        sin,
                        pairs: match flags & 1 {
                            0 => RopePairs::Halves,
                            _ => RopePairs::Neighbours,
                        },
                    }),
                    _ => return None,
                },
            },
            9 => Op::Append {
                from: columns(a, b),
                heads: heads(c, d),
                cache: BufferId(e),
                kept: match flags & 1 {
                    0 => Kept::Keys,
                    _ => Kept::Values,
                },
            },
            10 => Op::Attend {
                queries: columns(a, b),
                heads: heads(c, d),
                kv_heads: e,
                keys: BufferId(f),
                values: BufferId(g),
                out: BufferId(h),
                scale: f32::from_bits(number),
                softcap: f32::from_bits(second),
                window: third,
            },
            11 => Op::SelfAttend {
                queries: columns(a, b),
                keys: columns(c, d),
                values: columns(e, f),
                heads: heads(g, h),
                kv_heads: i,
                value_dim: u16::try_from(second).ok()?,
                scale: f32::from_bits(number),
                scratch: BufferId(j),
                out: BufferId(k),
            },
            12 => Op::Pool {
                x: BufferId(a),
                out: BufferId(b),
                first: flags & 1 == 1,
                normalise: flags & 2 == 2,
            },
            13 => Op::Unfold {
                x: BufferId(a),
                out: BufferId(b),
                patches: Patches {
                    size: [c, d, e],
                    strides: [number, second, third],
                    kernel: [f, g],
                    step: [h, i],
                    pad: [j, k],
                    places: [fourth, fifth],
                },
            },
            14 => Op::Prepend {
                table: TensorId(a),
                x: BufferId(b),
                out: BufferId(c),
            },
            _ => return None,
        })
    }
}

impl Op {
    /// The buffers that it reads or writes, some perhaps twice.
    pub fn buffers(&self) -> impl Iterator<Item = BufferId> {
        let of = |ids: &[BufferId]| {
            let mut found = [None; 5];
            found
                .iter_mut()
                .zip(ids)
                .for_each(|(to, id)| *to = Some(*id));
            found
        };
        let found = match *self {
            Op::Gather { out, .. } => of(&[out]),
            Op::Add { to, from } | Op::Copy { to, from } => of(&[to, from]),
            Op::Norm { x, out, .. }
            | Op::Prepare { x, out, .. }
            | Op::Pool { x, out, .. }
            | Op::Unfold { x, out, .. }
            | Op::Prepend { x, out, .. } => of(&[x, out]),
            Op::Multiply {
                activations, out, ..
            } => of(&[activations, out.buffer]),
            Op::Gated {
                activations,
                scratch,
                out,
                ..
            } => of(&[activations, scratch, out]),
            Op::Activate { x, .. } => of(&[x]),
            Op::Place { x, .. } => of(&[x.buffer]),
            Op::Append { from, cache, .. } => of(&[from.buffer, cache]),
            Op::Attend {
                queries,
                keys,
                values,
                out,
                ..
            } => of(&[queries.buffer, keys, values, out]),
            Op::SelfAttend {
                queries,
                keys,
                values,
                scratch,
                out,
                ..
            } => of(&[queries.buffer, keys.buffer, values.buffer, scratch, out]),
        };
        found.into_iter().flatten()
    }
}
