//! A query, key or value of an attention node, followed back to where it is made.

use tract_onnx::pb::NodeProto;

use super::constants;
use super::draft::Draft;
use super::node::{float, input, int, ints, size};
use super::spec::{HeadNorm, RopeTable};
use crate::Error;

/// How a value's columns are divided into heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[batch, tokens, heads · head_dim]`.
    Flat,
    /// `[batch, tokens, heads, head_dim]`.
    Split,
    /// `[batch, heads, tokens, head_dim]`.
    Heads,
}

/// A query, key or value followed back to where it is made.
pub(super) struct Operand {
    pub(super) base: String,
    pub(super) rope: Option<Rope>,
    pub(super) norm: Option<HeadNorm>,
}

/// A use of rotary positions.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Rope {
    pub(super) cos: String,
    pub(super) sin: String,
    pub(super) interleaved: bool,
    pub(super) rotary_dim: usize,
}

impl Operand {
    pub(super) fn at(value: &str) -> Operand {
        Operand {
            base: value.to_owned(),
            rope: None,
            norm: None,
        }
    }
}

/// Longest way from an attention node back to a linear layer.
const MAX_STEPS: usize = 8;

/// Follows a value back through what turns, normalises and divides heads. Only a flat value can be the end.
pub(super) fn follow(
    draft: &Draft,
    value: &str,
    layout: Layout,
    operand: Operand,
    steps: usize,
) -> Result<Option<Operand>, Error> {
    let end = |operand: Operand| {
        let base = value.to_owned();
        Ok((layout == Layout::Flat).then_some(Operand { base, ..operand }))
    };
    let Some((_, node)) = draft.producer(value).filter(|_| steps < MAX_STEPS) else {
        return end(operand);
    };
    let Some(source) = input(node, 0) else {
        return end(operand);
    };
    let mut next = Operand {
        base: String::new(),
        rope: operand.rope.clone(),
        norm: operand.norm.clone(),
    };
    let next_layout = match (node.op_type.as_str(), layout) {
        ("Reshape", Layout::Flat) if reshape_rank(draft, node)? == Some(3) => Layout::Split,
        ("Reshape", Layout::Split) if reshape_rank(draft, node)? == Some(4) => Layout::Flat,
        // ONNX Runtime GenAI's normalised heads are `[batch, tokens · heads, head_dim]`.
        ("Reshape", Layout::Split)
            if operand.norm.is_some() && reshape_rank(draft, node)? == Some(3) =>
        {
            Layout::Flat
        }
        ("Transpose", Layout::Heads) if swaps_heads_and_tokens(node) => Layout::Split,
        ("RotaryEmbedding", Layout::Flat | Layout::Heads) if operand.rope.is_none() => {
            let Some(rope) = rope(draft, node)? else {
                return end(operand);
            };
            // Normalised heads come before they are turned.
            if operand.norm.is_some() {
                return end(operand);
            }
            next.rope = Some(rope);
            layout
        }
        ("RMSNormalization" | "SimplifiedLayerNormalization", Layout::Split | Layout::Heads)
            if operand.norm.is_none() =>
        {
            let gain = input(node, 1)
                .map(|name| constants::vector(draft, name))
                .transpose()?
                .flatten();
            let Some(gain) = gain.filter(|_| int(node, "axis").unwrap_or(-1) == -1) else {
                return end(operand);
            };
            next.norm = Some(HeadNorm {
                gain,
                epsilon: float(node, "epsilon").unwrap_or(1e-5),
            });
            layout
        }
        _ => return end(operand),
    };
    match follow(draft, source, next_layout, next, steps + 1)? {
        Some(found) => Ok(Some(found)),
        None => end(operand),
    }
}

/// The rank that a `Reshape` with a constant shape gives, if it keeps the first two axes.
pub(super) fn reshape_rank(draft: &Draft, node: &NodeProto) -> Result<Option<usize>, Error> {
    let Some(shape) = input(node, 1) else {
        return Ok(None);
    };
    let shape = constants::whole_numbers(draft, shape)?;
    Ok(shape
        .filter(|shape| matches!(shape.as_slice(), [0, 0 | -1, ..]))
        .map(|shape| shape.len()))
}

pub(super) fn swaps_heads_and_tokens(node: &NodeProto) -> bool {
    ints(node, "perm") == Some(&[0, 2, 1, 3])
}

fn rope(draft: &Draft, node: &NodeProto) -> Result<Option<Rope>, Error> {
    // Microsoft's operator has the positions before the tables.
    let [cos, sin, positions] = match node.domain.as_str() {
        "" | "ai.onnx" => [1, 2, 3],
        "com.microsoft" => [2, 3, 1],
        _ => return Ok(None),
    };
    let (Some(cos), Some(sin), Some(positions)) =
        (input(node, cos), input(node, sin), input(node, positions))
    else {
        return Ok(None);
    };
    if float(node, "scale").unwrap_or(1.0) != 1.0
        || int(node, "is_packed_batching").unwrap_or(0) != 0
    {
        return Ok(None);
    }
    let Some(dims) = constants::dims(draft, cos)? else {
        return Ok(None);
    };
    let &[_, half] = dims.as_slice() else {
        return Ok(None);
    };
    if !draft.is_input(positions) {
        return Ok(None);
    }
    let rope = Rope {
        cos: cos.to_owned(),
        sin: sin.to_owned(),
        interleaved: int(node, "interleaved").unwrap_or(0) != 0,
        rotary_dim: half.saturating_mul(2),
    };
    let stated = size(node, "rotary_embedding_dim").unwrap_or(0);
    Ok((stated == 0 || stated == rope.rotary_dim).then_some(rope))
}

pub(super) fn rope_table(draft: &Draft, rope: &Rope) -> Result<RopeTable, Error> {
    let cos = constants::floats(draft, &rope.cos)?;
    let sin = constants::floats(draft, &rope.sin)?;
    match (cos, sin) {
        (Some((cos_dims, cos)), Some((sin_dims, sin)))
            if cos_dims == sin_dims && !cos.is_empty() =>
        {
            let (rotary_dim, interleaved) = (rope.rotary_dim, rope.interleaved);
            Ok(RopeTable {
                cos,
                sin,
                rotary_dim,
                interleaved,
            })
        }
        _ => Err(Error::invalid(
            draft.path(),
            format!("tables {:?} and {:?}", rope.cos, rope.sin),
            "cosines and sines must be constants of the same shape; export the model again",
        )),
    }
}
