//! From a checked model to a tract plan: parse, optimise, bound its memory, and run.
//!
//! Everything that calls into tract with a stranger's graph goes through [`shielded`]: tract is
//! careful, but where it panics anyway, the caller gets an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_core::internal::*;
use tract_linalg::multithread::Executor;
use tract_onnx::Onnx;
use tract_onnx::tract_hir::infer::{InferenceFact, InferenceModel, InferenceModelExt};

use crate::Error;
use crate::import::{OnnxModel, TableResolver};

/// Bytes that one value inside the graph may take while it runs.
const MAX_VALUE_BYTES: u64 = 8 << 30;

/// Calls into tract, and turns a panic there into an error.
pub(crate) fn shielded<T>(work: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| text.to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        bail!("tract panicked, which is a bug in it or in Furlong, please report it: {text}")
    })
}

/// What a graph input is, as far as its file says.
#[derive(Debug, Clone)]
pub(crate) struct PlanInput {
    pub element: DatumType,
    pub shape: TVec<usize>,
}

/// tract's reading of `model`, before any analysis.
///
/// # Errors
/// [`Error::Graph`] with tract's reasons.
pub(crate) fn parse(model: &OnnxModel, mut onnx: Onnx) -> Result<InferenceModel, Error> {
    onnx.provider = Arc::new(model.resolver());
    // Tools leave stale shapes behind; tract finds the true ones by itself.
    onnx.ignore_value_info = true;
    let parsed = shielded(|| {
        let parsed = onnx.parse(model.proto(), Some(TableResolver::MODEL_DIR))?;
        ensure!(parsed.unresolved_inputs.is_empty(), "nothing makes {:?}", parsed.unresolved_inputs);
        Ok(parsed.model)
    });
    parsed.map_err(|e| Error::graph(model.path(), &e))
}

/// Optimises a parsed graph, with its inputs of exactly these types and shapes if given.
pub(crate) fn optimise(
    mut graph: InferenceModel,
    inputs: Option<&[PlanInput]>,
    executor: &Executor,
) -> TractResult<Arc<TypedSimplePlan>> {
    shielded(|| {
        for (index, input) in inputs.unwrap_or(&[]).iter().enumerate() {
            graph.set_input_fact(index, InferenceFact::dt_shape(input.element, &input.shape))?;
        }
        let typed = graph.into_typed()?;
        check_sizes(&typed, &SymbolValues::default())?;
        let model = typed.into_optimized()?;
        check_sizes(&model, &SymbolValues::default())?;
        let options = RunOptions { executor: Some(executor.clone()), ..Default::default() };
        TypedSimplePlan::new_with_options(model, &options)
    })
}

/// Runs a plan once.
pub(crate) fn run(plan: &Arc<TypedSimplePlan>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
    shielded(|| {
        let symbols = symbols(plan.model(), &inputs)?;
        check_sizes(plan.model(), &symbols)?;
        plan.run(inputs)
    })
}

/// What the symbols of a model's inputs stand for, where a dimension is a symbol by itself.
fn symbols(model: &TypedModel, inputs: &[TValue]) -> TractResult<SymbolValues> {
    let mut values = SymbolValues::default();
    for (outlet, input) in model.input_outlets()?.iter().zip(inputs) {
        for (dim, given) in model.outlet_fact(*outlet)?.shape.iter().zip(input.shape()) {
            if let TDim::Sym(symbol) = dim {
                values.set(symbol, i64::try_from(*given)?);
            }
        }
    }
    Ok(values)
}

/// Refuses a model that has a value of a size no machine has. Sizes that depend on what is
/// computed, or on symbols that aren't known, are let through.
fn check_sizes(model: &TypedModel, symbols: &SymbolValues) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let size = output.fact.datum_type.size_of() as u64;
            let bytes = output.fact.shape.iter().try_fold(Some(size), |all, dim| {
                let dim = dim.eval_to_i64(symbols).ok()?;
                Some(all.and_then(|all| all.checked_mul(u64::try_from(dim).ok()?)))
            });
            if let Some(bytes) = bytes
                && bytes.is_none_or(|b| b > MAX_VALUE_BYTES)
            {
                bail!("the output of {:?} would need over {} GiB", node.name, MAX_VALUE_BYTES >> 30);
            }
        }
    }
    Ok(())
}

/// The threads that tract's own operators use.
///
/// # Errors
/// [`Error::Usage`] when the system doesn't give them.
pub(crate) fn executor(threads: usize) -> Result<Executor, Error> {
    if threads <= 1 {
        return Ok(Executor::SingleThread);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("furlong-graph-{index}"))
        .build()
        .map_err(|e| Error::Usage(format!("can't start {threads} threads: {e}; ask for fewer")))?;
    Ok(Executor::MultiThread(Arc::new(pool)))
}

/// An error of a run, with the file it belongs to.
pub(crate) fn run_error(path: &Path, cause: &TractError) -> Error {
    Error::Run(format!("{}: {cause:#}", path.display()))
}
