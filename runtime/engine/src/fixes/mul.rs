//! `Mul` of a dimension by numbers that aren't known yet, as `row · length` in an index
//! computation. tract reads the symbol as a plain number while it optimises, and gives up. With
//! plain integers there is no symbol to read.

use tract_core::internal::*;
use tract_core::ops::cast::wire_cast;
use tract_core::ops::math;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::binary::InferenceBinOp;

pub(super) fn build(
    _context: &ParsingContext,
    _node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((expand(Mul(InferenceBinOp(Box::new(math::Mul)))), vec![]))
}

#[derive(Debug, Clone)]
struct Mul(InferenceBinOp);

impl Expansion for Mul {
    fn name(&self) -> StaticName {
        "Mul".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut is_dimension = false;
        let mut is_known = true;
        for input in inputs {
            let fact = model.outlet_fact(*input)?;
            is_dimension |= fact.datum_type == TDim::datum_type();
            is_known &= fact.konst.is_some();
        }
        if !is_dimension || is_known {
            return self.0.wire(prefix, model, inputs);
        }
        let numbers = wire_cast(prefix, model, inputs, i64::datum_type())?;
        let product = self.0.wire(&format!("{prefix}.numbers"), model, &numbers)?;
        wire_cast(
            format!("{prefix}.back"),
            model,
            &product,
            TDim::datum_type(),
        )
    }
}
