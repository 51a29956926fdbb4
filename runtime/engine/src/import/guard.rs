//! Keeps tract from computing something enormous while it still reads the graph.
//!
//! tract evaluates an operator as soon as its inputs are constant, and a graph of a few hundred
//! bytes can say "fill a million by a million". Every operator that stock tract knows is wrapped
//! when the graph is parsed; the wrapper looks at the shapes that tract inferred before it lets the
//! evaluation happen, and is otherwise invisible.

use std::collections::HashMap;
use std::sync::LazyLock;

use tract_core::internal::*;
use tract_onnx::Onnx;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::InferenceModelPatch;
use tract_onnx::tract_hir::infer::{
    Factoid, InferenceFact, InferenceModel, InferenceNode, InferenceOp,
};

use crate::fixes;

/// Bytes that one constant may have when tract computes it.
const MAX_CONSTANT_BYTES: u64 = 1 << 30;

/// The operators of stock tract.
static STOCK: LazyLock<OnnxOpRegister> = LazyLock::new(|| tract_onnx::onnx().op_register);

/// Stock tract's ONNX reader with each operator guarded.
pub(crate) fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    for builder in onnx.op_register.0.values_mut() {
        *builder = build;
    }
    onnx
}

/// As [`onnx`], with our [`fixes`](crate::fixes) in it.
pub(crate) fn onnx_with_fixes() -> Onnx {
    let mut onnx = onnx();
    fixes::register(&mut onnx.op_register);
    onnx
}

/// Whether stock tract, or a fix of ours, has this node's operator. tract itself looks at the type
/// alone, and would run another domain's operator of the same name.
pub(crate) fn is_known(node: &NodeProto) -> bool {
    let domain = match node.domain.as_str() {
        "" | "ai.onnx" | "ai.onnx.ml" => true,
        // The same name for another operator.
        "com.microsoft" => node.op_type != "Attention",
        _ => false,
    };
    domain && STOCK.0.contains_key(&node.op_type)
}

pub(crate) fn build(
    context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let builder = STOCK
        .0
        .get(&node.op_type)
        .context("an operator that tract doesn't know")?;
    let (op, closures) = builder(context, node)?;
    Ok((Box::new(Guarded(op)), closures))
}

/// An operator that isn't evaluated at parse time when its outputs are too large.
#[derive(Debug, Clone)]
struct Guarded(Box<dyn InferenceOp>);

/// As tract's own `Expansion`s: two operators are never known to be the same.
impl PartialEq for Guarded {
    fn eq(&self, _other: &Guarded) -> bool {
        false
    }
}
impl Eq for Guarded {}

impl Op for Guarded {
    fn name(&self) -> StaticName {
        self.0.name()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        self.0.info()
    }
    fn validation(&self) -> Validation {
        self.0.validation()
    }
    fn as_typed(&self) -> Option<&dyn TypedOp> {
        self.0.as_typed()
    }
}

impl EvalOp for Guarded {
    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(ctx, inputs)
    }
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.0.eval_out_of_plan(inputs)
    }
    fn state(&self, ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.0.state(ctx)
    }
}

type Facts = TVec<InferenceFact>;

impl InferenceOp for Guarded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        let found = self
            .0
            .infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
        if found.0.is_empty() || found.0.iter().any(|fact| fact.value.concretize().is_none()) {
            // Nothing to evaluate, and the rules have just been applied.
            return Ok(found);
        }
        for fact in &found.1 {
            if let Some(shape) = fact.shape.as_concrete_finite()? {
                let size = fact
                    .datum_type
                    .concretize()
                    .map_or(1, |t| t.size_of() as u64);
                let bytes = shape
                    .iter()
                    .try_fold(size, |all, dim| all.checked_mul(*dim as u64));
                ensure!(
                    bytes.is_some_and(|b| b <= MAX_CONSTANT_BYTES),
                    "a constant of shape {shape:?} is too large"
                );
            }
        }
        self.0.infer(inputs, outputs, observed)
    }
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.0.infer_facts(inputs, outputs, observed)
    }
    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.0.observe_outlets(model, node)
    }
    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.0.incorporate(model, node)
    }
    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
    }
    fn as_op(&self) -> &dyn Op {
        self.0.as_op()
    }
    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.0.as_op_mut()
    }
    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.0.to_typed(source, node, target, mapping)
    }
}
