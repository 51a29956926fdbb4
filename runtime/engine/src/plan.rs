//! From a checked model to a tract plan: parse, optimise, bound its memory, and run.
//!
//! Everything that calls into tract with a stranger's graph goes through [`shielded`]: tract is
//! careful, but where it panics anyway, the caller gets an error.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_core::internal::*;
use tract_linalg::multithread::Executor;
use tract_onnx::Onnx;
use tract_onnx::tract_hir::infer::{InferenceFact, InferenceModel, InferenceModelExt};

use crate::graph::GraphOptions;
use crate::import::{OnnxModel, TableResolver, guard};
use crate::ops::{self, Machine};
use crate::pool::{self, Pool};
use crate::rewrite::{self, Rewritten, rewrite_graph};
use crate::weights::{Cache, PackedModel};
use crate::{Array, Error, KvFormat};

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
        ensure!(
            parsed.unresolved_inputs.is_empty(),
            "nothing makes {:?}",
            parsed.unresolved_inputs
        );
        Ok(parsed.model)
    });
    parsed.map_err(|e| Error::graph(model.path(), &e))
}

/// What makes plans of one model: with our ops, or with stock tract's alone.
pub(crate) struct Planner {
    /// The model as it came from its file.
    pub model: OnnxModel,
    ops: Ops,
}

/// Whose operators run a graph.
enum Ops {
    /// tract's, on these threads.
    Stock(Executor),
    /// Ours where there is one.
    Ours(Machine),
}

impl Planner {
    /// A planner for `model`, which must hold no operators that can't be run.
    ///
    /// # Errors
    /// [`Error::UnsupportedOps`]; [`Error::Usage`] when the system doesn't give the threads.
    pub(crate) fn new(model: OnnxModel, options: &GraphOptions) -> Result<Planner, Error> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = options.threads.unwrap_or(cores);
        let ops = match options.stock {
            true => {
                model.check_supported(guard::is_known)?;
                Ops::Stock(executor(threads)?)
            }
            false => {
                let pool = Arc::new(Pool::new(threads)?);
                let isa = furlong_core::Isa::detect();
                Ops::Ours(Machine {
                    isa,
                    pool,
                    kv: KvFormat::F32,
                    context: 0,
                })
            }
        };
        Ok(Planner { model, ops })
    }

    /// A plan, for inputs of exactly these types and shapes if given. The inner error is tract's.
    ///
    /// # Errors
    /// What parsing and rewriting refuse.
    pub(crate) fn plan(
        &self,
        inputs: Option<&[PlanInput]>,
    ) -> Result<TractResult<Arc<TypedSimplePlan>>, Error> {
        match &self.ops {
            Ops::Stock(executor) => {
                let graph = parse(&self.model, guard::onnx())?;
                Ok(optimise(
                    graph,
                    inputs,
                    |_| Ok(()),
                    |_| Ok(executor.clone()),
                ))
            }
            Ops::Ours(machine) => {
                let Rewritten { model, specs, .. } = rewrite_graph(self.model.clone())?;
                let Machine { isa, pool, .. } = machine;
                let packed = PackedModel::new(&specs, None, *isa, pool, &Cache::none());
                let packed = packed.map_err(|error| error.of(model.path()))?;
                model.check_supported(|n| n.domain == rewrite::DOMAIN || guard::is_known(n))?;
                let mut onnx = guard::onnx_with_fixes();
                ops::register(&mut onnx.op_register);
                let graph = parse(&model, onnx)?;
                let bind = |typed: &mut TypedModel| ops::bind(typed, specs, packed, machine);
                Ok(optimise(graph, inputs, bind, |graph| {
                    machine_executor(machine, graph)
                }))
            }
        }
    }

    /// Runs a plan of this planner once.
    pub(crate) fn run(
        &self,
        plan: &Arc<TypedSimplePlan>,
        inputs: &[Array],
    ) -> TractResult<Vec<Array>> {
        match &self.ops {
            Ops::Stock(_) => run(plan, inputs),
            Ops::Ours(machine) => machine.pool.enter(|| run(plan, inputs)),
        }
    }
}

/// The threads of tract's own operators beside ours: where one of them is worth sharing, those that the pool enters,
/// which rayon takes for the global ones there.
pub(crate) fn machine_executor(machine: &Machine, graph: &TypedModel) -> TractResult<Executor> {
    let shared = |node: &TypedNode| WORTH_SHARING.contains(&node.op.name().as_ref());
    if machine.pool.threads() == 1 || !graph.nodes().iter().any(shared) {
        return Ok(Executor::SingleThread);
    }
    machine.pool.start_graph_threads()?;
    Ok(Executor::RayonGlobal)
}

/// tract's operators that take long enough for its threads; others gain nothing in a transformer.
const WORTH_SHARING: [&str; 4] = ["OptMatMul", "FlashSDPA", "Conv", "DepthWiseConv"];

/// Optimises a parsed graph. `bind` may put other operators in before tract does; `executor` then chooses its threads.
pub(crate) fn optimise(
    mut graph: InferenceModel,
    inputs: Option<&[PlanInput]>,
    bind: impl FnOnce(&mut TypedModel) -> TractResult<()>,
    executor: impl FnOnce(&TypedModel) -> TractResult<Executor>,
) -> TractResult<Arc<TypedSimplePlan>> {
    shielded(|| {
        for (index, input) in inputs.unwrap_or(&[]).iter().enumerate() {
            graph.set_input_fact(index, InferenceFact::dt_shape(input.element, &input.shape))?;
        }
        let mut typed = graph.into_typed()?;
        check_sizes(&typed, &SymbolValues::default())?;
        bind(&mut typed)?;
        let model = typed.into_optimized()?;
        check_sizes(&model, &SymbolValues::default())?;
        let options = RunOptions {
            executor: Some(executor(&model)?),
            ..Default::default()
        };
        TypedSimplePlan::new_with_options(model, &options)
    })
}

/// Runs a plan once.
fn run(plan: &Arc<TypedSimplePlan>, inputs: &[Array]) -> TractResult<Vec<Array>> {
    shielded(|| {
        let inputs: TVec<TValue> = inputs
            .iter()
            .map(|a| Ok(a.to_tensor()?.into()))
            .collect::<TractResult<_>>()?;
        let symbols = symbols(plan.model(), &inputs)?;
        check_sizes(plan.model(), &symbols)?;
        plan.run(inputs)?
            .iter()
            .map(|value| Array::from_tensor(value))
            .collect()
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
                bail!(
                    "the output of {:?} would need over {} GiB",
                    node.name,
                    MAX_VALUE_BYTES >> 30
                );
            }
        }
    }
    Ok(())
}

/// The threads that tract's own operators use.
///
/// # Errors
/// [`Error::Usage`] when the system doesn't give them.
fn executor(threads: NonZeroUsize) -> Result<Executor, Error> {
    Ok(match threads.get() {
        1 => Executor::SingleThread,
        count => Executor::MultiThread(pool::graph_threads(count)?),
    })
}

/// An error of a run, with the file it belongs to.
pub(crate) fn run_error(path: &Path, cause: &TractError) -> Error {
    Error::Run(format!("{}: {cause:#}", path.display()))
}
