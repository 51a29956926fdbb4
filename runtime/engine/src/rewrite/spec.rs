//! What each of our ops is, between the graph it was found in and the op that tract runs.

use std::sync::Arc;

use furlong_core::int8::Ranges;

use crate::import::TensorBytes;

/// The op type of look-ups.
pub(crate) const GATHER: &str = "FurlongQuantGather";

/// One of our ops, with its weights still as the file has them.
#[derive(Debug)]
pub(crate) enum OpSpec {
    /// `y = x · Wᵀ + b`.
    Linear(LinearSpec),
    /// The same with weights of 8 bits by rows.
    Int8Linear(Int8Spec),
    /// `y = activation(x · W_gateᵀ) ∘ (x · W_upᵀ)`; the linear's first half of rows is the gate.
    Gated(LinearSpec, Activation),
    /// Rows of a table, by index, as numbers of the width that the graph expects.
    Gather(WeightSource, FloatWidth),
    /// Attention of new tokens over a cache of all tokens, which is the op's own state.
    Attention(AttentionSpec),
    /// Attention of all tokens over all of them.
    SelfAttention(SelfAttentionSpec),
    /// Normalisation over the last axis.
    Norm(NormSpec),
    /// An activation by itself.
    Activation(Activation),
    /// Moved into another op.
    Taken,
}

/// Element-wise functions that gate or follow a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
}

/// A linear layer: one matrix, or several that read the same input, one below the other.
#[derive(Debug, Clone)]
pub(crate) struct LinearSpec {
    /// The parts, all of the same format and with the same number of columns.
    pub parts: Vec<LinearPart>,
}

/// One matrix of a linear layer.
#[derive(Debug, Clone)]
pub(crate) struct LinearPart {
    /// The node it came from.
    pub name: String,
    /// The matrix.
    pub weights: WeightSource,
    /// `[rows]`, added to the product.
    pub bias: Option<Arc<[f32]>>,
}

/// A linear layer of 8-bit weights with a scale for each row, and activations of 8 bits: matrices that read the same input.
#[derive(Debug, Clone)]
pub(crate) struct Int8Spec {
    /// The parts, all with the same number of columns.
    pub parts: Vec<Int8Part>,
    /// Which activations share a scale.
    pub ranges: Ranges,
}

/// One matrix of such a layer.
#[derive(Debug, Clone)]
pub(crate) struct Int8Part {
    /// The node it came from.
    pub name: String,
    /// The matrix.
    pub weights: Int8Source,
    /// `[rows]`, added to the product.
    pub bias: Option<Arc<[f32]>>,
}

/// Where weights of 8 bits by rows come from.
#[derive(Debug, Clone)]
pub(crate) enum Int8Source {
    /// `MatMulInteger`'s.
    Columns {
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// `[cols, rows]`.
        codes: TensorBytes,
        /// Codes and zero points are i8 rather than u8.
        signed: bool,
        /// One for all rows, or one for each.
        scales: Vec<f32>,
        /// One for all rows, or one for each.
        zeros: Vec<u8>,
    },
    /// Blocks, to be rounded anew.
    Blocks(WeightSource),
}

/// A matrix as a file stores it.
#[derive(Debug, Clone)]
pub(crate) struct WeightSource {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// How the numbers are stored.
    pub data: WeightData,
}

/// The bytes of a matrix; their lengths fit its shape.
#[derive(Debug, Clone)]
pub(crate) enum WeightData {
    /// Plain numbers.
    Dense {
        /// The numbers, little-endian.
        bytes: TensorBytes,
        /// f16 or f32.
        width: FloatWidth,
        /// Stored as `[cols, rows]` rather than `[rows, cols]`.
        transposed: bool,
    },
    /// Codes in blocks along the columns, as `MatMulNBits` has them.
    Blocks {
        /// Bits a code: 4 or 8.
        bits: usize,
        /// Columns a block.
        block_size: usize,
        /// `[rows, blocks, block_size · bits / 8]`.
        codes: TensorBytes,
        /// `[rows, blocks]`.
        scales: TensorBytes,
        /// f16 or f32.
        scale_width: FloatWidth,
        /// The code of zero, by block.
        zero_points: ZeroPoints,
    },
}

/// The zero points of blocks.
#[derive(Debug, Clone)]
pub(crate) enum ZeroPoints {
    /// The middle of the codes' range.
    Middle,
    /// Packed like the codes, each row padded to a byte.
    Packed(TensorBytes),
    /// Real numbers of the scales' type, `[rows, blocks]`.
    Float(TensorBytes),
}

/// How wide a floating-point number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FloatWidth {
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
}

/// What makes two matrices fit into one packed matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WeightFormat {
    /// Plain numbers of this width.
    Dense(FloatWidth),
    /// Blocks.
    Blocks {
        /// Bits a code.
        bits: usize,
        /// Columns a block.
        block_size: usize,
        /// Whether each block has a zero point of its own.
        has_zero_points: bool,
        /// The scales' type.
        scale_width: FloatWidth,
    },
}

/// Normalisation over the last axis.
#[derive(Debug, Clone)]
pub(crate) struct NormSpec {
    /// Factor by column.
    pub gain: Arc<[f32]>,
    /// Summand by column, and whether the mean is taken out (LayerNorm) or not (RMSNorm).
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether there is a second input to be added first, the sum being a second output.
    pub residual: bool,
}

/// The two normalisations.
#[derive(Debug, Clone)]
pub(crate) enum NormKind {
    /// `x / rms(x) · gain`.
    Rms,
    /// `(x - mean) / deviation · gain + bias`.
    Layer {
        /// `[columns]`; absent for none.
        bias: Option<Arc<[f32]>>,
    },
}

/// Attention with rotary positions, a cache, and causal masking.
#[derive(Debug, Clone)]
pub(crate) struct AttentionSpec {
    /// Which layer's cache this is: unique in a graph.
    pub layer: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// `cap · tanh(score / cap)`, if any.
    pub softcap: Option<f32>,
    /// How many positions back a token sees, itself included; everything if absent.
    pub window: Option<usize>,
    /// Rotary positions of queries and keys.
    pub rope: Option<Arc<RopeTable>>,
    /// Normalisation of each query head, `[head_dim]`.
    pub query_norm: Option<HeadNorm>,
    /// Normalisation of each key head, `[head_dim]`.
    pub key_norm: Option<HeadNorm>,
    /// How queries, keys and values come in.
    pub inputs: AttentionInputs,
}

/// Attention without a cache or positions: every token sees every other, but for what a mask hides.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a query or key of one head.
    pub head_dim: usize,
    /// Columns of a value of one head.
    pub value_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// How queries, keys and values come in.
    pub inputs: AttentionInputs,
    /// Whether a mask comes in after them.
    pub masked: bool,
}

/// RMS normalisation within a head.
#[derive(Debug, Clone)]
pub(crate) struct HeadNorm {
    /// `[head_dim]`.
    pub gain: Arc<[f32]>,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// How attention gets its queries, keys and values, `[batch, tokens, columns]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AttentionInputs {
    /// Three inputs.
    Separate,
    /// One input: queries, then keys, then values along the columns.
    Packed,
}

/// Cosines and sines by position.
#[derive(Debug)]
pub(crate) struct RopeTable {
    /// `[positions, rotary_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[positions, rotary_dim / 2]`.
    pub sin: Vec<f32>,
    /// Columns of a head that are turned; the rest is left as it is.
    pub rotary_dim: usize,
    /// Pairs are neighbours (2i, 2i+1) rather than halves (i, i + rotary_dim/2).
    pub interleaved: bool,
}

impl RopeTable {
    /// How many positions the tables have.
    pub(crate) fn positions(&self) -> usize {
        self.cos.len().checked_div(self.rotary_dim / 2).unwrap_or(0)
    }

    /// The table of the first `positions` positions.
    pub(crate) fn first(&self, positions: usize) -> RopeTable {
        let numbers = positions.saturating_mul(self.rotary_dim / 2);
        let part = |all: &[f32]| all.get(..numbers).unwrap_or(all).to_vec();
        RopeTable {
            cos: part(&self.cos),
            sin: part(&self.sin),
            ..*self
        }
    }
}

impl ZeroPoints {
    /// Their bytes, where there are any.
    pub(crate) fn bytes(&self) -> Option<&TensorBytes> {
        match self {
            ZeroPoints::Middle => None,
            ZeroPoints::Packed(points) | ZeroPoints::Float(points) => Some(points),
        }
    }
}

impl WeightSource {
    /// Whether two matrices are the same bytes of the same file, read in the same way.
    pub(crate) fn is_same_as(&self, other: &WeightSource) -> bool {
        let same = |a: &TensorBytes, b: &TensorBytes| std::ptr::eq(a.as_slice(), b.as_slice());
        let same_data = match (&self.data, &other.data) {
            (
                WeightData::Dense {
                    bytes, transposed, ..
                },
                WeightData::Dense {
                    bytes: other,
                    transposed: other_transposed,
                    ..
                },
            ) => same(bytes, other) && transposed == other_transposed,
            (
                WeightData::Blocks {
                    codes,
                    scales,
                    zero_points,
                    ..
                },
                WeightData::Blocks {
                    codes: other_codes,
                    scales: other_scales,
                    zero_points: other_points,
                    ..
                },
            ) => {
                let points = match (zero_points.bytes(), other_points.bytes()) {
                    (None, None) => true,
                    (Some(points), Some(other)) => same(points, other),
                    _ => false,
                };
                same(codes, other_codes) && same(scales, other_scales) && points
            }
            _ => false,
        };
        same_data
            && (self.rows, self.cols) == (other.rows, other.cols)
            && self.format() == other.format()
    }

    /// What this matrix must have in common with another one to be packed together with it.
    pub(crate) fn format(&self) -> WeightFormat {
        match &self.data {
            WeightData::Dense { width, .. } => WeightFormat::Dense(*width),
            WeightData::Blocks {
                bits,
                block_size,
                scale_width,
                zero_points,
                ..
            } => WeightFormat::Blocks {
                bits: *bits,
                block_size: *block_size,
                has_zero_points: !matches!(zero_points, ZeroPoints::Middle),
                scale_width: *scale_width,
            },
        }
    }
}

impl LinearSpec {
    /// Outputs of all parts together.
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.weights.rows).sum()
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        self.parts.first().map_or(0, |part| part.weights.cols)
    }

    /// Whether `other` can be packed below this one.
    pub(crate) fn fits(&self, other: &LinearSpec) -> bool {
        let format = |spec: &LinearSpec| spec.parts.first().map(|part| part.weights.format());
        self.cols() == other.cols() && format(self) == format(other)
    }
}

impl Int8Source {
    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Int8Source::Columns { rows, .. } => *rows,
            Int8Source::Blocks(source) => source.rows,
        }
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        match self {
            Int8Source::Columns { cols, .. } => *cols,
            Int8Source::Blocks(source) => source.cols,
        }
    }
}

impl Int8Spec {
    /// Outputs of all parts together.
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.weights.rows()).sum()
    }

    /// Inputs.
    pub(crate) fn cols(&self) -> usize {
        self.parts.first().map_or(0, |part| part.weights.cols())
    }
}

impl AttentionSpec {
    /// Columns of the queries, and of the output.
    pub(crate) fn query_columns(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the keys, and of the values.
    pub(crate) fn kv_columns(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

impl OpSpec {
    /// The op type of the node that stands for this op.
    pub(crate) fn op_type(&self) -> &'static str {
        match self {
            OpSpec::Linear(_) => "FurlongQuantLinear",
            OpSpec::Int8Linear(_) => "FurlongInt8Linear",
            OpSpec::Gated(..) => "FurlongGatedLinear",
            OpSpec::Gather(..) => GATHER,
            OpSpec::Attention(_) => "FurlongKvAttention",
            OpSpec::SelfAttention(_) => "FurlongSelfAttention",
            OpSpec::Norm(_) => "FurlongNorm",
            OpSpec::Activation(_) => "FurlongActivation",
            OpSpec::Taken => "FurlongTaken",
        }
    }

    /// All op types that [`OpSpec::op_type`] can give.
    pub(crate) const OP_TYPES: [&'static str; 8] = [
        "FurlongQuantLinear",
        "FurlongInt8Linear",
        "FurlongGatedLinear",
        GATHER,
        "FurlongKvAttention",
        "FurlongSelfAttention",
        "FurlongNorm",
        "FurlongActivation",
    ];

    /// Whether the output is f16 although the input can't tell.
    pub(crate) fn gives_half(&self) -> bool {
        matches!(self, OpSpec::Gather(_, FloatWidth::F16))
    }

    /// Outputs of a linear layer, of whatever weights.
    pub(crate) fn linear_rows(&self) -> Option<usize> {
        match self {
            OpSpec::Linear(linear) => Some(linear.rows()),
            OpSpec::Int8Linear(linear) => Some(linear.rows()),
            _ => None,
        }
    }

    /// How many of its inputs are activations, f32 and of the same rows; those after them are taken as they are.
    pub(crate) fn streams(&self) -> Option<usize> {
        match self {
            OpSpec::SelfAttention(attention) => Some(attention.inputs.count()),
            _ => None,
        }
    }

    /// The last dimension of each output; -1 where it is that of the first input.
    pub(crate) fn columns(&self) -> Vec<i64> {
        let columns = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        match self {
            OpSpec::Linear(linear) => vec![columns(linear.rows())],
            OpSpec::Int8Linear(linear) => vec![columns(linear.rows())],
            OpSpec::Gated(linear, _) => vec![columns(linear.rows() / 2)],
            OpSpec::Gather(weights, _) => vec![columns(weights.cols)],
            OpSpec::Attention(attention) => vec![columns(attention.query_columns())],
            OpSpec::SelfAttention(attention) => {
                vec![columns(attention.heads * attention.value_dim)]
            }
            OpSpec::Norm(norm) if norm.residual => vec![-1, -1],
            OpSpec::Norm(_) | OpSpec::Activation(_) => vec![-1],
            OpSpec::Taken => vec![],
        }
    }
}
