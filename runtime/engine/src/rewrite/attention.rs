//! `Attention` with a past, and what leads to it (rotary positions, normalised heads), become `KvAttention`.
//!
//! The cache leaves the graph: `past_*` inputs and `present_*` outputs go, and the op keeps it as its state.
//! Where queries, keys and values come from linear layers of one format, these become one layer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::draft::{Draft, NodeId};
use super::foreign_attention;
use super::node::{float, input, int, output, size};
use super::operand::{
    Layout, Operand, Rope, follow, reshape_rank, rope_table, swaps_heads_and_tokens,
};
use super::spec::{AttentionInputs, AttentionSpec, OpSpec, RopeTable};
use crate::Error;

/// One attention node and what was found around it.
pub(super) struct Found {
    pub(super) spec: AttentionSpec,
    pub(super) query: Operand,
    pub(super) key: Operand,
    pub(super) value: Operand,
    pub(super) removed: Vec<NodeId>,
    pub(super) result: String,
    pub(super) past: [String; 2],
    pub(super) present: [String; 2],
}

/// Rewrites every attention layer with a cache.
///
/// # Errors
/// [`Error::Unsupported`] when some layer with a cache can't be rewritten; [`Error::Invalid`] for tables that
/// don't fit.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    let mut ropes: HashMap<Rope, Arc<RopeTable>> = HashMap::new();
    let mut gone: HashSet<String> = HashSet::new();
    let mut layers = 0;
    let standard = draft.ids_of("Attention");
    for id in standard
        .into_iter()
        .chain(draft.ids_of("GroupQueryAttention"))
    {
        let Some(node) = draft.node(id) else { continue };
        let found = match node.op_type.as_str() {
            "Attention" => find(draft, id, layers)?,
            _ => foreign_attention::find(draft, id, layers)?,
        };
        let Some(mut found) = found else {
            let reason = format!(
                "attention node {:?} doesn't have the form that a cached decoder needs (causal, with a past \
                 key and value as graph inputs); run it with `infer --stock`",
                node.name
            );
            return Err(Error::unsupported(draft.path(), reason));
        };
        if let Some(rope) = &found.query.rope {
            let table = match ropes.get(rope) {
                Some(table) => table.clone(),
                None => {
                    let table = Arc::new(rope_table(draft, rope)?);
                    ropes.insert(rope.clone(), table.clone());
                    table
                }
            };
            found.spec.rope = Some(table);
        }
        gone.extend(found.past.iter().chain(&found.present).cloned());
        replace(draft, found);
        layers += 1;
    }
    let outputs: Vec<String> = draft
        .outputs()
        .iter()
        .filter(|output| !gone.contains(&output.name))
        .map(|output| output.name.clone())
        .collect();
    draft.set_outputs(&outputs);
    draft.remove_inputs(&gone);
    draft.prune();
    draft.remove_unread_inputs();
    Ok(())
}

fn find(draft: &Draft, id: NodeId, layer: usize) -> Result<Option<Found>, Error> {
    let Some(node) = draft.node(id) else {
        return Ok(None);
    };
    let Some((past, present)) = cache_names(draft, node) else {
        return Ok(None);
    };
    let Some(&[_, Some(kv_heads), _, Some(head_dim)]) = draft.input_dims(&past[0]).as_deref()
    else {
        return Ok(None);
    };
    if draft.input_dims(&past[1]) != draft.input_dims(&past[0]) || !is_causal(draft, node) {
        return Ok(None);
    }
    let layout = match size(node, "q_num_heads") {
        Some(_) => Layout::Flat,
        None => Layout::Heads,
    };
    let operand = |index: usize| match input(node, index) {
        Some(value) => follow(draft, value, layout, Operand::at(value), 0),
        None => Ok(None),
    };
    let (Some(query), Some(key), Some(value)) = (operand(0)?, operand(1)?, operand(2)?) else {
        return Ok(None);
    };
    if query.rope != key.rope || value.rope.is_some() || value.norm.is_some() {
        return Ok(None);
    }
    let rows = |operand: &Operand| match draft.producer(&operand.base) {
        Some((id, _)) => draft.spec(id).map(|spec| spec.linear_rows().unwrap_or(0)),
        None => None,
    };
    let heads = match size(node, "q_num_heads") {
        Some(heads) => heads,
        None => rows(&query).unwrap_or(0).checked_div(head_dim).unwrap_or(0),
    };
    let fits = |operand: &Operand, heads: usize| {
        rows(operand).is_none_or(|rows| heads.checked_mul(head_dim) == Some(rows))
    };
    let valid = heads > 0
        && kv_heads > 0
        && heads.checked_mul(head_dim).is_some()
        && heads.is_multiple_of(kv_heads)
        && head_dim > 0
        && fits(&query, heads)
        && fits(&key, kv_heads)
        && fits(&value, kv_heads)
        && size(node, "kv_num_heads").is_none_or(|count| count == kv_heads);
    let Some((mut removed, result)) = joined_heads(draft, node, layout).filter(|_| valid) else {
        return Ok(None);
    };
    removed.push(id);
    let scale = float(node, "scale").unwrap_or(1.0 / (head_dim as f32).sqrt());
    let spec = AttentionSpec {
        layer,
        heads,
        kv_heads,
        head_dim,
        scale,
        softcap: float(node, "softcap").filter(|&cap| cap > 0.0),
        window: None,
        rope: None,
        query_norm: query.norm.clone(),
        key_norm: key.norm.clone(),
        inputs: AttentionInputs::Separate,
    };
    Ok(Some(Found {
        spec,
        query,
        key,
        value,
        removed,
        result,
        past,
        present,
    }))
}

/// The graph inputs that bring the past, and the graph outputs that take the present away.
fn cache_names(draft: &Draft, node: &NodeProto) -> Option<([String; 2], [String; 2])> {
    let past = [input(node, 4)?.to_owned(), input(node, 5)?.to_owned()];
    let present = [output(node, 1)?.to_owned(), output(node, 2)?.to_owned()];
    let is_cache = past
        .iter()
        .all(|name| draft.is_input(name) && draft.consumers(name).len() == 1)
        && present
            .iter()
            .all(|name| draft.is_output(name) && draft.consumers(name).is_empty())
        && output(node, 3).is_none()
        && input(node, 6).is_none();
    is_cache.then_some((past, present))
}

/// Whether each token sees itself and what is before it: by the attribute, or, in a decoder of our own export,
/// by a mask that the graph makes from its inputs.
fn is_causal(draft: &Draft, node: &NodeProto) -> bool {
    match input(node, 3) {
        None => int(node, "is_causal") == Some(1),
        Some(_) => draft.metadata("furlong.kind") == Some("decoder"),
    }
}

/// The nodes after attention that put heads side by side, and the flat value they make.
fn joined_heads(draft: &Draft, node: &NodeProto, layout: Layout) -> Option<(Vec<NodeId>, String)> {
    let result = output(node, 0)?;
    if layout == Layout::Flat {
        return Some((vec![], result.to_owned()));
    }
    let (transpose, node) = draft.sole_consumer(result)?;
    let transposed = output(node, 0).filter(|_| swaps_heads_and_tokens(node))?;
    let (reshape, node) = draft
        .sole_consumer(transposed)
        .filter(|(_, node)| node.op_type == "Reshape")?;
    let rank = reshape_rank(draft, node).ok().flatten();
    Some((
        vec![transpose, reshape],
        output(node, 0).filter(|_| rank == Some(3))?.to_owned(),
    ))
}

fn replace(draft: &mut Draft, found: Found) {
    let mut spec = found.spec;
    let name = format!("attention.{}", spec.layer);
    let bases = [&found.query.base, &found.key.base, &found.value.base].map(|base| base.clone());
    let packed = match spec.inputs {
        AttentionInputs::Packed => Some(found.query.base.clone()),
        AttentionInputs::Separate => merge(draft, &bases, &format!("{name}.qkv")),
    };
    let result = [found.result.as_str()];
    match &packed {
        Some(packed) => {
            spec.inputs = AttentionInputs::Packed;
            draft.replace(
                &found.removed,
                &name,
                OpSpec::Attention(spec),
                &[packed],
                &result,
            );
        }
        None => {
            let inputs = bases.each_ref().map(String::as_str);
            draft.replace(
                &found.removed,
                &name,
                OpSpec::Attention(spec),
                &inputs,
                &result,
            );
        }
    }
}

/// Makes one layer of the three that give queries, keys and values; returns its output.
pub(super) fn merge(draft: &mut Draft, bases: &[String; 3], name: &str) -> Option<String> {
    let mut ids = Vec::new();
    for base in bases {
        let (id, _) = draft.producer(base)?;
        draft.sole_consumer(base)?;
        ids.push(id);
    }
    let source = input(draft.node(*ids.first()?)?, 0)?.to_owned();
    let same_input = |id: NodeId| draft.node(id).and_then(|node| input(node, 0)) == Some(&source);
    let distinct = ids.iter().collect::<HashSet<_>>().len() == ids.len();
    if !distinct || !ids.iter().all(|&id| same_input(id)) {
        return None;
    }
    let merged = match draft.spec(*ids.first()?)? {
        OpSpec::Linear(first) => {
            let mut merged = first.clone();
            for &id in ids.get(1..)? {
                match draft.spec(id)? {
                    OpSpec::Linear(other) if first.fits(other) => {
                        merged.parts.extend(other.parts.iter().cloned());
                    }
                    _ => return None,
                }
            }
            OpSpec::Linear(merged)
        }
        OpSpec::Int8Linear(first) => {
            let mut merged = first.clone();
            for &id in ids.get(1..)? {
                match draft.spec(id)? {
                    OpSpec::Int8Linear(other) if first.ranges == other.ranges => {
                        merged.parts.extend(other.parts.iter().cloned());
                    }
                    _ => return None,
                }
            }
            OpSpec::Int8Linear(merged)
        }
        _ => return None,
    };
    for &id in &ids {
        draft.take_spec(id);
    }
    draft.replace(&ids, name, merged, &[&source], &[name]);
    Some(name.to_owned())
}
