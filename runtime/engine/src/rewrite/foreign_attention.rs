//! Microsoft's `GroupQueryAttention`, in which ONNX Runtime GenAI writes its decoders: queries, keys
//! and values apart or packed in one, rotary positions inside the node or before it.
//!
//! The lengths that the node gets (`seqlens_k`, `total_sequence_length`) say how much of the cache is
//! filled. The session knows that, so they go, and the mask they are computed from with them.

use tract_onnx::pb::NodeProto;

use super::attention::Found;
use super::constants;
use super::draft::{Draft, NodeId};
use super::node::{float, input, int, output, size};
use super::operand::{Layout, Operand, Rope, follow};
use super::spec::{AttentionInputs, AttentionSpec};
use crate::Error;

/// What the node's optional inputs from here on are for, none of which is supported.
const LAST_INPUT: usize = 9;

/// The attention that a `GroupQueryAttention` node is, or `None` where it has something we don't.
pub(super) fn find(draft: &Draft, id: NodeId, layer: usize) -> Result<Option<Found>, Error> {
    let Some(node) = draft.node(id).filter(|node| is_plain(node)) else {
        return Ok(None);
    };
    let Some((past, present)) = cache_names(draft, node) else {
        return Ok(None);
    };
    let (Some(heads), Some(kv_heads)) = (size(node, "num_heads"), size(node, "kv_num_heads"))
    else {
        return Ok(None);
    };
    let Some(&[_, Some(cached_heads), _, Some(head_dim)]) = draft.input_dims(&past[0]).as_deref()
    else {
        return Ok(None);
    };
    let (Some(query), Some(result)) = (input(node, 0), output(node, 0)) else {
        return Ok(None);
    };
    let valid =
        head_dim > 0 && kv_heads > 0 && cached_heads == kv_heads && heads.is_multiple_of(kv_heads);
    if !valid || heads == 0 {
        return Ok(None);
    }
    let (mut query, mut key, value, inputs) = match (input(node, 1), input(node, 2)) {
        (Some(key), Some(value)) => {
            let operand = |value: &str| follow(draft, value, Layout::Flat, Operand::at(value), 0);
            let (Some(query), Some(key)) = (operand(query)?, operand(key)?) else {
                return Ok(None);
            };
            (query, key, Operand::at(value), AttentionInputs::Separate)
        }
        (None, None) => {
            let packed = || Operand::at(query);
            (packed(), packed(), packed(), AttentionInputs::Packed)
        }
        _ => return Ok(None),
    };
    if int(node, "do_rotary").unwrap_or(0) != 0 {
        let Some(rope) = rope(draft, node)?.filter(|_| query.rope.is_none() && key.rope.is_none())
        else {
            return Ok(None);
        };
        (query.rope, key.rope) = (Some(rope.clone()), Some(rope));
    }
    if query.rope != key.rope {
        return Ok(None);
    }
    let given = float(node, "scale").filter(|&scale| scale != 0.0);
    let spec = AttentionSpec {
        layer,
        heads,
        kv_heads,
        head_dim,
        scale: given.unwrap_or(1.0 / (head_dim as f32).sqrt()),
        softcap: float(node, "softcap").filter(|&cap| cap > 0.0),
        window: size(node, "local_window_size").filter(|&window| window > 0),
        rope: None,
        query_norm: query.norm.clone(),
        key_norm: key.norm.clone(),
        inputs,
    };
    let result = result.to_owned();
    Ok(Some(Found {
        spec,
        query,
        key,
        value,
        removed: vec![id],
        result,
        past,
        present,
    }))
}

/// Whether the node has none of the operator's rarer features: bias, sinks, quantised caches.
fn is_plain(node: &NodeProto) -> bool {
    let off = |name: &str| int(node, name).unwrap_or(0) == 0;
    let causal = int(node, "causal").unwrap_or(1) != 0;
    node.domain == "com.microsoft"
        && causal
        && ["smooth_softmax", "qk_output", "sliding_window_cache"]
            .into_iter()
            .all(off)
        && (LAST_INPUT..node.input.len()).all(|index| input(node, index).is_none())
        && (3..node.output.len()).all(|index| output(node, index).is_none())
}

/// The graph inputs that bring the past, and the graph outputs that take the present away.
fn cache_names(draft: &Draft, node: &NodeProto) -> Option<([String; 2], [String; 2])> {
    let past = [input(node, 3)?.to_owned(), input(node, 4)?.to_owned()];
    let present = [output(node, 1)?.to_owned(), output(node, 2)?.to_owned()];
    let is_cache = past
        .iter()
        .all(|name| draft.is_input(name) && draft.consumers(name).len() == 1)
        && present
            .iter()
            .all(|name| draft.is_output(name) && draft.consumers(name).is_empty());
    is_cache.then_some((past, present))
}

/// The rotary positions inside the node: as far as the tables are wide, two columns each.
fn rope(draft: &Draft, node: &NodeProto) -> Result<Option<Rope>, Error> {
    let (Some(cos), Some(sin)) = (input(node, 7), input(node, 8)) else {
        return Ok(None);
    };
    let Some((dims, _)) = constants::floats(draft, cos)? else {
        return Ok(None);
    };
    let &[_, half] = dims.as_slice() else {
        return Ok(None);
    };
    Ok(Some(Rope {
        cos: cos.to_owned(),
        sin: sin.to_owned(),
        interleaved: int(node, "rotary_interleaved").unwrap_or(0) != 0,
        rotary_dim: half.saturating_mul(2),
    }))
}
