//! `Attention` without a cache, in plain matrix products. tract turns it into an op of its own that
//! takes no boolean mask, though that is what the standard has, and runs on all cores whatever the
//! caller asked for. What has a cache or is causal by attribute is left to it.

use tract_core::internal::*;
use tract_core::ops::cast::wire_cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::logic::Iff;
use tract_core::ops::math::{add, mul, tanh};
use tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::logic::wire_with_rank_broadcast;

use crate::import::guard;

pub(super) fn build(
    context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let has = |names: &[String], index: usize| names.get(index).is_some_and(|n| !n.is_empty());
    let plain = (4..7).all(|index| !has(&node.input, index))
        && (1..4).all(|index| !has(&node.output, index))
        && node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) == 0
        && node
            .get_attr_opt::<i64>("qk_matmul_output_mode")?
            .unwrap_or(0)
            == 0;
    if !plain {
        return guard::build(context, node);
    }
    let heads = |name: &str| {
        node.get_attr_opt::<usize>(name)
            .map(|h| h.filter(|h| *h > 0))
    };
    let attention = Attention {
        heads: heads("q_num_heads")?,
        kv_heads: heads("kv_num_heads")?,
        scale: node.get_attr_opt("scale")?,
        softcap: node
            .get_attr_opt::<f32>("softcap")?
            .filter(|cap| *cap > 0.0),
        has_mask: has(&node.input, 3),
    };
    Ok((expand(attention), vec![]))
}

#[derive(Debug, Clone)]
struct Attention {
    /// Query heads, where queries are `[batch, tokens, heads · width]`.
    heads: Option<usize>,
    kv_heads: Option<usize>,
    scale: Option<f32>,
    softcap: Option<f32>,
    has_mask: bool,
}

/// `[batch, tokens, heads · width]` to `[batch, heads, tokens, width]`.
fn split_heads(
    prefix: &str,
    model: &mut TypedModel,
    value: OutletId,
    heads: Option<usize>,
) -> TractResult<OutletId> {
    let shape = model.outlet_fact(value)?.shape.to_tvec();
    match (shape.as_slice(), heads) {
        ([_, _, _, _], _) => Ok(value),
        ([_, _, columns], Some(heads)) => {
            ensure!(
                columns.clone() % heads == 0.to_dim(),
                "{columns} columns don't divide into {heads} heads"
            );
            let to = tvec!(heads.to_dim(), columns.clone() / heads);
            let op = AxisOp::Reshape(2, tvec!(columns.clone()), to);
            let split = model.wire_node(format!("{prefix}.split"), op, &[value])?;
            Ok(model.wire_node(format!("{prefix}.heads"), AxisOp::Move(2, 1), &split)?[0])
        }
        _ => bail!(
            "attention wants [batch, heads, tokens, width], or three axes and a number of heads"
        ),
    }
}

impl Expansion for Attention {
    fn name(&self) -> StaticName {
        "Attention".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3 + usize::from(self.has_mask))?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&outputs[0].shape[1], &inputs[0].shape[1])?;
        s.given_2(
            &inputs[0].shape,
            &inputs[2].shape,
            move |s, query, value| match (query.as_slice(), value.as_slice()) {
                ([_, _, tokens, _], [_, _, _, width]) => {
                    s.equals(&outputs[0].shape[2], tokens.clone())?;
                    s.equals(&outputs[0].shape[3], width.clone())
                }
                ([_, _, _], [_, _, columns]) => {
                    let (Some(heads), Some(kv_heads)) = (self.heads, self.kv_heads) else {
                        bail!("attention over three axes needs its numbers of heads")
                    };
                    s.equals(&outputs[0].shape[2], columns.clone() / kv_heads * heads)
                }
                _ => bail!("attention wants three or four axes"),
            },
        )
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        let (element, is_flat) = (fact.datum_type, fact.rank() == 3);
        let float = f32::datum_type();
        let floats = wire_cast(format!("{prefix}.f32"), model, &inputs[..3], float)?;
        let mut query = split_heads(&format!("{prefix}.q"), model, floats[0], self.heads)?;
        let key = split_heads(&format!("{prefix}.k"), model, floats[1], self.kv_heads)?;
        let value = split_heads(&format!("{prefix}.v"), model, floats[2], self.kv_heads)?;
        let dims = |model: &TypedModel, outlet: OutletId| -> TractResult<TVec<TDim>> {
            Ok(model.outlet_fact(outlet)?.shape.to_tvec())
        };
        let (query_dims, key_dims) = (dims(model, query)?, dims(model, key)?);
        let (heads, kv_heads) = (query_dims[1].to_usize()?, key_dims[1].to_usize()?);
        ensure!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads don't share {kv_heads}"
        );
        let group = heads / kv_heads;
        let width = query_dims[3].to_usize()?;
        ensure!(width > 0, "heads without columns");

        let scale = self.scale.unwrap_or(1.0 / (width as f32).sqrt());
        let scale = model.add_const(format!("{prefix}.scale"), tensor0(scale))?;
        query =
            wire_with_rank_broadcast(format!("{prefix}.scaled"), model, mul(), &[query, scale])?[0];
        if group > 1 {
            let to = tvec!(kv_heads.to_dim(), group.to_dim());
            let op = AxisOp::Reshape(1, tvec!(heads.to_dim()), to);
            query = model.wire_node(format!("{prefix}.groups"), op, &[query])?[0];
        }
        let (products, sums) = match group {
            1 => ("bhmk,bhnk->bhmn", "bhmn,bhnv->bhmv"),
            _ => ("bhgmk,bhnk->bhgmn", "bhgmn,bhnv->bhgmv"),
        };
        let op = EinSum::new(products.parse()?, float);
        let mut scores = model.wire_node(format!("{prefix}.scores"), op, &[query, key])?[0];
        let join =
            |name: &str, model: &mut TypedModel, outlet: OutletId| -> TractResult<OutletId> {
                if group == 1 {
                    return Ok(outlet);
                }
                let from = tvec!(kv_heads.to_dim(), group.to_dim());
                let op = AxisOp::Reshape(1, from, tvec!(heads.to_dim()));
                Ok(model.wire_node(format!("{prefix}.{name}"), op, &[outlet])?[0])
            };
        scores = join("all_scores", model, scores)?;
        if let Some(cap) = self.softcap {
            let factor = model.add_const(format!("{prefix}.cap"), tensor0(cap))?;
            let inverse = model.add_const(format!("{prefix}.cap_inverse"), tensor0(cap.recip()))?;
            let small = wire_with_rank_broadcast(
                format!("{prefix}.small"),
                model,
                mul(),
                &[scores, inverse],
            )?;
            let bent = model.wire_node(format!("{prefix}.bent"), tanh(), &small)?[0];
            scores = wire_with_rank_broadcast(
                format!("{prefix}.capped"),
                model,
                mul(),
                &[bent, factor],
            )?[0];
        }
        if self.has_mask {
            let mask = inputs[3];
            scores = if model.outlet_fact(mask)?.datum_type == bool::datum_type() {
                // A row that sees nothing spreads evenly, as in ONNX Runtime, rather than being no number.
                let hidden = model.add_const(format!("{prefix}.hidden"), tensor0(f32::MIN))?;
                wire_with_rank_broadcast(
                    format!("{prefix}.masked"),
                    model,
                    Iff,
                    &[mask, scores, hidden],
                )?[0]
            } else {
                let mask = wire_cast(format!("{prefix}.mask"), model, &[mask], float)?[0];
                wire_with_rank_broadcast(format!("{prefix}.masked"), model, add(), &[scores, mask])?
                    [0]
            };
        }
        let softmax = Softmax::new(tvec!(3), None, SoftmaxKind::Softmax);
        let mut weights = model.wire_node(format!("{prefix}.softmax"), softmax, &[scores])?[0];
        if group > 1 {
            let to = tvec!(kv_heads.to_dim(), group.to_dim());
            let op = AxisOp::Reshape(1, tvec!(heads.to_dim()), to);
            weights = model.wire_node(format!("{prefix}.group_weights"), op, &[weights])?[0];
        }
        let op = EinSum::new(sums.parse()?, float);
        let sum = model.wire_node(format!("{prefix}.sums"), op, &[weights, value])?[0];
        let mut output = tvec!(join("all_sums", model, sum)?);
        if is_flat {
            output = model.wire_node(format!("{prefix}.tokens"), AxisOp::Move(1, 2), &output)?;
            let value_width = dims(model, value)?[3].clone();
            let to = tvec!(value_width.clone() * heads);
            let op = AxisOp::Reshape(2, tvec!(heads.to_dim(), value_width), to);
            output = model.wire_node(format!("{prefix}.flat"), op, &output)?;
        }
        wire_cast(prefix, model, &output, element)
    }
}
