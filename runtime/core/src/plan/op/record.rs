//! Ops as records of the image: one kind, some flags, and operands in the order that docs/plan-format.md lists.

use super::{Activation, Columns, Heads, Index, Kept, Op, Patches, Rope, Rows};
use crate::plan::record::{Reader, Writer};
use crate::plan::{BufferId, TensorId};
use crate::rope::RopePairs;

/// Bytes of an op's record: kind and flags, eleven operands of 16 bits, six numbers of 32 bits.
pub const OP_BYTES: usize = 48;

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
    pub(in crate::plan) fn decode(record: &[u8]) -> Option<Op> {
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
