//! `Flatten` over several open dimensions: tract's own refuses a product of symbols, and PyTorch's
//! masks flatten `[batch, sequence]`.

use tract_core::internal::*;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let axis = node.get_attr_opt("axis")?.unwrap_or(1);
    Ok((expand(Flatten { axis }), vec![]))
}

/// `[a, b, c, d]` to `[a · b, c · d]`, cut before `axis`, which may be negative.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct Flatten {
    axis: i64,
}

impl Flatten {
    fn cut(&self, rank: usize) -> TractResult<usize> {
        let rank = i64::try_from(rank)?;
        let axis = if self.axis < 0 {
            self.axis + rank
        } else {
            self.axis
        };
        ensure!(
            (0..=rank).contains(&axis),
            "axis {} of a tensor with {rank} axes",
            self.axis
        );
        Ok(usize::try_from(axis)?)
    }
}

impl Expansion for Flatten {
    fn name(&self) -> StaticName {
        "Flatten".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.given(&inputs[0].shape, move |s, shape| {
            let (before, after) = shape.split_at(self.cut(shape.len())?);
            let flat: TVec<TDim> = tvec!(before.iter().product(), after.iter().product());
            s.equals(&outputs[0].shape, flat)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let (before, after) = shape.split_at(self.cut(shape.len())?);
        let mut wire: TVec<OutletId> = inputs.into();
        for (at, part) in [(before.len(), after), (0, before)] {
            let op = match part {
                [] => AxisOp::Add(at),
                [_] => continue,
                many => AxisOp::Reshape(at, many.into(), tvec!(many.iter().product())),
            };
            wire = model.wire_node(format!("{prefix}.{at}"), op, &wire)?;
        }
        Ok(wire)
    }
}
