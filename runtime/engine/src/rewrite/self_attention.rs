//! `Attention` without a cache, as encoders have it, becomes `SelfAttention`.
//!
//! Only where queries, keys and values are outputs of linear layers: their widths tell the heads' width. Where the
//! three layers are of one format they become one. What isn't matched is left to `fixes/attention.rs`.

use tract_onnx::pb::NodeProto;

use super::attention::merge;
use super::draft::Draft;
use super::node::{float, input, int, output, size};
use super::spec::{AttentionInputs, OpSpec, SelfAttentionSpec};

/// Rewrites every attention that sees all tokens, but for what a mask hides.
pub(crate) fn rewrite(draft: &mut Draft) {
    for id in draft.ids_of("Attention") {
        let found = draft.node(id).and_then(|node| {
            let spec = find(draft, node)?;
            let inputs: Option<Vec<String>> = (0..if spec.masked { 4 } else { 3 })
                .map(|index| input(node, index).map(str::to_owned))
                .collect();
            Some((spec, inputs?, output(node, 0)?.to_owned()))
        });
        let Some((spec, inputs, result)) = found else {
            continue;
        };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        draft.replace(
            &[id],
            &result,
            OpSpec::SelfAttention(spec),
            &inputs,
            &[&result],
        );
    }
    // What only asked for shapes reads the layers no longer.
    draft.prune();
    pack(draft);
}

/// Makes one layer of the three that give queries, keys and values.
fn pack(draft: &mut Draft) {
    for id in draft.ids() {
        let found = draft.node(id).and_then(|node| match draft.spec(id)? {
            OpSpec::SelfAttention(spec) if spec.inputs == AttentionInputs::Separate => {
                let (operands, mask) = node.input.split_first_chunk::<3>()?;
                Some((operands.clone(), mask.to_vec(), output(node, 0)?.to_owned()))
            }
            _ => None,
        });
        let Some((operands, mask, result)) = found else {
            continue;
        };
        let Some(packed) = merge(draft, &operands, &format!("{result}.qkv")) else {
            continue;
        };
        let Some(OpSpec::SelfAttention(mut spec)) = draft.take_spec(id) else {
            continue;
        };
        spec.inputs = AttentionInputs::Packed;
        let inputs: Vec<&str> = [&packed]
            .into_iter()
            .chain(&mask)
            .map(String::as_str)
            .collect();
        draft.replace(
            &[id],
            &result,
            OpSpec::SelfAttention(spec),
            &inputs,
            &[&result],
        );
    }
}

fn find(draft: &Draft, node: &NodeProto) -> Option<SelfAttentionSpec> {
    let plain = matches!(node.domain.as_str(), "" | "ai.onnx")
        && (4..7).all(|index| input(node, index).is_none())
        && (1..4).all(|index| output(node, index).is_none())
        && int(node, "is_causal").unwrap_or(0) == 0
        && float(node, "softcap").unwrap_or(0.0) <= 0.0;
    if !plain {
        return None;
    }
    let (heads, kv_heads) = (size(node, "q_num_heads")?, size(node, "kv_num_heads")?);
    let columns = |index: usize| {
        let (id, _) = draft.producer(input(node, index)?)?;
        draft.spec(id)?.linear_rows()
    };
    let width = |columns: usize, heads: usize| {
        let fits = heads > 0 && columns > 0 && columns.is_multiple_of(heads);
        fits.then(|| columns / heads)
    };
    let head_dim = width(columns(0)?, heads)?;
    if width(columns(1)?, kv_heads)? != head_dim || !heads.is_multiple_of(kv_heads) {
        return None;
    }
    Some(SelfAttentionSpec {
        heads,
        kv_heads,
        head_dim,
        value_dim: width(columns(2)?, kv_heads)?,
        scale: float(node, "scale").unwrap_or(1.0 / (head_dim as f32).sqrt()),
        inputs: AttentionInputs::Separate,
        masked: input(node, 3).is_some(),
    })
}
