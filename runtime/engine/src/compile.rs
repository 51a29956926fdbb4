//! From a rewritten graph to a plan that tract runs, with our ops and their packed weights in it.

use std::sync::{Arc, Mutex, PoisonError};

use tract_core::internal::*;
use tract_onnx::tract_hir::infer::{Factoid, InferenceModel};

use crate::Error;
use crate::import::{OnnxModel, guard};
use crate::ops::{self, Machine, SessionScratch};
use crate::plan;
use crate::rewrite::{self, OpSpec};
use crate::weights::PackedModel;

/// A plan, and the names of what goes in and comes out, in order.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The plan.
    pub plan: Arc<TypedSimplePlan>,
    /// The graph's inputs.
    pub inputs: Vec<String>,
    /// The graph's outputs.
    pub outputs: Vec<String>,
    /// Encoders: what a run leaves for the next, its working memory.
    idle: Mutex<Vec<TypedSimpleState>>,
}

impl Compiled {
    /// Runs the plan with working memory that an earlier run left, if there is any.
    ///
    /// # Errors
    /// Whatever an op refuses.
    pub(crate) fn run(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let left = idle().pop();
        let mut state = match left {
            Some(state) => state,
            None => {
                let mut state = self.plan.spawn()?;
                state.turn_state.shared.insert(SessionScratch::default());
                state
            }
        };
        let outputs = state.run(inputs)?;
        idle().push(state);
        Ok(outputs)
    }
}

/// Makes a plan of a rewritten graph. With `one_sequence`, the first axis of each input is 1.
///
/// # Errors
/// [`Error::UnsupportedOps`]; [`Error::Graph`] with what tract says.
pub(crate) fn compile(
    model: &OnnxModel,
    specs: Vec<OpSpec>,
    packed: PackedModel,
    machine: &Machine,
    one_sequence: bool,
) -> Result<Compiled, Error> {
    model.check_supported(|node| node.domain == rewrite::DOMAIN || guard::is_known(node))?;
    let mut onnx = guard::onnx_with_fixes();
    ops::register(&mut onnx.op_register);
    let mut graph = plan::parse(model, onnx)?;
    let outputs = model
        .graph()
        .output
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let failed = |error: TractError| Error::graph(model.path(), &error);
    let inputs = input_names(&graph).map_err(failed)?;
    if one_sequence {
        fix_batch(&mut graph).map_err(failed)?;
    }
    let bind = |typed: &mut TypedModel| ops::bind(typed, specs, packed, machine);
    let plan = plan::optimise(graph, None, bind, |graph| {
        plan::machine_executor(machine, graph)
    });
    Ok(Compiled {
        plan: plan.map_err(failed)?,
        inputs,
        outputs,
        idle: Mutex::default(),
    })
}

fn input_names(graph: &InferenceModel) -> TractResult<Vec<String>> {
    let sources = graph.input_outlets()?;
    Ok(sources
        .iter()
        .map(|source| graph.node(source.node).name.clone())
        .collect())
}

/// Sets the first axis of every input to 1.
pub(crate) fn fix_batch(graph: &mut InferenceModel) -> TractResult<()> {
    for index in 0..graph.input_outlets()?.len() {
        let mut fact = graph.input_fact(index)?.clone();
        if fact.shape.rank().concretize().is_some_and(|rank| rank > 0) {
            fact.shape.set_dim(0, 1.to_dim());
            graph.set_input_fact(index, fact)?;
        }
    }
    Ok(())
}
