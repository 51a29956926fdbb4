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
            let operands = [0, 1, 2].map(|index| input(node, index).unwrap_or_default().to_owned());
            let mask = input(node, 3).map(str::to_owned);
            Some((spec, operands, mask, output(node, 0)?.to_owned()))
        });
        let Some((mut spec, operands, mask, result)) = found else {
            continue;
        };
        let mut inputs: Vec<String> = match merge(draft, &operands, &format!("{result}.qkv")) {
            Some(packed) => {
                spec.inputs = AttentionInputs::Packed;
                vec![packed]
            }
            None => operands.into(),
        };
        inputs.extend(mask);
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let spec = OpSpec::SelfAttention(spec);
        draft.replace(&[id], &result, spec, &inputs, &[&result]);
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
