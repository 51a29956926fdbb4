//! Any ONNX graph: named arrays in, named arrays out.
//!
//! The graph is optimised once with the dimensions it leaves open as symbols. Some graphs can't be:
//! tract can't prove their shapes, or they were written for one shape. These, and those that fail
//! with symbols when they run, are optimised again for each set of shapes that comes in, and the
//! last few results are kept.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tract_core::internal::{DatumType, TractError, TypedSimplePlan};
use tract_onnx::pb;

use crate::import::{ElementType, OnnxModel};
use crate::plan::{self, PlanInput, Planner};
use crate::{Array, Error};

/// Shapes for which a plan of their own is kept.
const KEPT_PLANS: usize = 3;

/// How to load a [`Graph`].
#[derive(Debug, Clone, Default)]
pub struct GraphOptions {
    /// Run on tract alone, without any of Furlong's operators: slower, and the reference that
    /// they are compared with.
    pub stock: bool,
    /// Threads; all cores if absent.
    pub threads: Option<NonZeroUsize>,
}

/// An input or output of a [`Graph`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GraphValue {
    /// Its name.
    pub name: String,
    /// The type of its elements, as ONNX spells it: `FLOAT`, `INT64` …
    pub element: String,
    /// Its dimensions: a number, a symbol's name, or `?`.
    pub shape: Vec<String>,
}

/// A loaded ONNX graph. Cheap to clone, and can be run from several threads at once.
#[derive(Clone)]
pub struct Graph {
    inner: Arc<Inner>,
}

/// The shapes of all inputs, and the plan made for them.
type ConcretePlan = (Vec<Vec<usize>>, Arc<TypedSimplePlan>);

struct Inner {
    path: PathBuf,
    planner: Planner,
    inputs: Vec<GraphValue>,
    elements: Vec<Option<ElementType>>,
    outputs: Vec<GraphValue>,
    /// The plan for any shape, or why there is none.
    symbolic: Result<Arc<TypedSimplePlan>, String>,
    /// Plans for one set of input shapes each, the latest last.
    concrete: Mutex<Vec<ConcretePlan>>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            path,
            inputs,
            outputs,
            ..
        } = &*self.inner;
        f.debug_struct("Graph")
            .field("path", path)
            .field("inputs", inputs)
            .field("outputs", outputs)
            .finish()
    }
}

impl Graph {
    /// Loads the ONNX file at `path`, or `model.onnx` in the folder `path`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] as [`OnnxModel::open`]; [`Error::UnsupportedOps`];
    /// [`Error::Graph`] when tract can't make a plan.
    pub fn load(path: &Path, options: &GraphOptions) -> Result<Graph, Error> {
        Graph::from_model(OnnxModel::open(path)?, options)
    }

    /// As [`Graph::load`], from a model that has been opened.
    ///
    /// # Errors
    /// As [`Graph::load`].
    pub fn from_model(mut model: OnnxModel, options: &GraphOptions) -> Result<Graph, Error> {
        name_open_dimensions(model.proto_mut());
        let (inputs, elements): (Vec<_>, Vec<_>) = free_inputs(model.graph())
            .map(|v| (describe(v), element_of(v)))
            .unzip();
        let outputs = model.graph().output.iter().map(describe).collect();
        let planner = Planner::new(model, options)?;
        let symbolic = planner.plan(None)?.map_err(|e| format!("{e:#}"));
        let path = planner.model.path().to_path_buf();
        if let Err(reason) = &symbolic {
            // With every dimension known, other shapes won't help.
            let is_closed = |v: &GraphValue| v.shape.iter().all(|d| d.parse::<u64>().is_ok());
            if inputs.iter().all(is_closed) {
                return Err(Error::Graph {
                    file: path,
                    reason: reason.clone(),
                });
            }
            log::debug!("{}: no plan with symbols: {reason}", path.display());
        }
        let concrete = Mutex::new(Vec::new());
        let inner = Inner {
            path,
            planner,
            inputs,
            elements,
            outputs,
            symbolic,
            concrete,
        };
        Ok(Graph {
            inner: Arc::new(inner),
        })
    }

    /// The inputs that a run must give.
    pub fn inputs(&self) -> &[GraphValue] {
        &self.inner.inputs
    }

    /// The outputs that a run returns, in this order.
    pub fn outputs(&self) -> &[GraphValue] {
        &self.inner.outputs
    }

    /// Whether one plan serves all shapes. Otherwise the first run with each set of shapes takes
    /// as long as loading did.
    pub fn is_symbolic(&self) -> bool {
        self.inner.symbolic.is_ok()
    }

    /// The model's file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs the graph once. The inputs may come in any order, each exactly once.
    ///
    /// # Errors
    /// [`Error::Usage`] when the inputs don't fit the graph, [`Error::Run`] when the graph fails on
    /// them, [`Error::Graph`] when no plan can be made for their shapes.
    pub fn run(&self, inputs: Vec<(String, Array)>) -> Result<Vec<(String, Array)>, Error> {
        let inner = &*self.inner;
        let arrays = inner.in_order(inputs)?;
        let failed = |e: &TractError| plan::run_error(&inner.path, e);
        let outputs = match &inner.symbolic {
            Ok(symbolic) => match inner.planner.run(symbolic, &arrays) {
                Ok(outputs) => outputs,
                Err(reason) => {
                    log::debug!("{}: failed with symbols: {reason:#}", inner.path.display());
                    let Ok(plan) = inner.plan_for(&arrays) else {
                        return Err(failed(&reason));
                    };
                    inner
                        .planner
                        .run(&plan, &arrays)
                        .map_err(|_| failed(&reason))?
                }
            },
            Err(_) => {
                let plan = inner.plan_for(&arrays)?;
                inner.planner.run(&plan, &arrays).map_err(|e| failed(&e))?
            }
        };
        Ok(inner
            .outputs
            .iter()
            .map(|output| output.name.clone())
            .zip(outputs)
            .collect())
    }
}

impl Inner {
    /// The arrays in the order of the graph's inputs, each of the right type and rank.
    fn in_order(&self, inputs: Vec<(String, Array)>) -> Result<Vec<Array>, Error> {
        let mut slots: Vec<Option<Array>> = vec![None; self.inputs.len()];
        for (name, array) in inputs {
            let Some(index) = self.inputs.iter().position(|i| i.name == name) else {
                let known: Vec<_> = self.inputs.iter().map(|i| i.name.as_str()).collect();
                return Err(Error::Usage(format!(
                    "the graph has no input {name:?}; its inputs are {known:?}"
                )));
            };
            let (input, element) = (&self.inputs[index], self.elements[index]);
            if element.is_some_and(|e| e != array.element()) {
                let given = array.element().as_str_name();
                return Err(Error::Usage(format!(
                    "input {name:?} must be {}, not {given}",
                    input.element
                )));
            }
            if !fits(&input.shape, array.shape()) {
                let (wanted, given) = (&input.shape, array.shape());
                return Err(Error::Usage(format!(
                    "input {name:?} must have the shape {wanted:?}, not {given:?}"
                )));
            }
            if slots[index].replace(array).is_some() {
                return Err(Error::Usage(format!("input {name:?} is given twice")));
            }
        }
        let missing =
            |i: usize| Error::Usage(format!("input {:?} is missing", self.inputs[i].name));
        slots
            .into_iter()
            .enumerate()
            .map(|(i, slot)| slot.ok_or_else(|| missing(i)))
            .collect()
    }

    /// The plan for exactly these shapes.
    fn plan_for(&self, arrays: &[Array]) -> Result<Arc<TypedSimplePlan>, Error> {
        let shapes: Vec<Vec<usize>> = arrays.iter().map(|a| a.shape().to_vec()).collect();
        let lock = || self.concrete.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = lock().iter().find(|(known, _)| *known == shapes) {
            return Ok(plan.clone());
        }
        let inputs: Vec<PlanInput> = arrays
            .iter()
            .map(|a| PlanInput {
                element: datum_type(a.element()),
                shape: a.shape().into(),
            })
            .collect();
        let plan = self
            .planner
            .plan(Some(&inputs))?
            .map_err(|e| Error::graph(&self.path, &e))?;
        let mut kept = lock();
        if kept.len() >= KEPT_PLANS {
            kept.remove(0);
        }
        kept.push((shapes, plan.clone()));
        Ok(plan)
    }
}

/// Whether an array of shape `given` can be fed where the file says `wanted`.
fn fits(wanted: &[String], given: &[usize]) -> bool {
    let same = |(w, g): (&String, &usize)| w.parse::<usize>().map_or(true, |w| w == *g);
    wanted == ["..."] || (wanted.len() == given.len() && wanted.iter().zip(given).all(same))
}

/// tract's name for the types an [`Array`] can have.
fn datum_type(element: ElementType) -> DatumType {
    DatumType::try_from(element).unwrap_or(DatumType::F32)
}

/// The graph's inputs that no initialiser fills.
fn free_inputs(graph: &pb::GraphProto) -> impl Iterator<Item = &pb::ValueInfoProto> {
    graph
        .input
        .iter()
        .filter(|i| graph.initializer.iter().all(|t| t.name != i.name))
}

fn tensor_type(value: &pb::ValueInfoProto) -> Option<&pb::type_proto::Tensor> {
    let pb::type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

fn element_of(value: &pb::ValueInfoProto) -> Option<ElementType> {
    let element = ElementType::try_from(tensor_type(value)?.elem_type).ok()?;
    (element != ElementType::Undefined).then_some(element)
}

fn describe(value: &pb::ValueInfoProto) -> GraphValue {
    use pb::tensor_shape_proto::dimension::Value;
    let shape = match tensor_type(value).and_then(|t| t.shape.as_ref()) {
        None => vec!["...".to_string()],
        Some(shape) => {
            let dim = |d: &pb::tensor_shape_proto::Dimension| match &d.value {
                Some(Value::DimValue(v)) if *v >= 0 => v.to_string(),
                Some(Value::DimParam(name)) if !name.is_empty() => name.clone(),
                _ => "?".to_string(),
            };
            shape.dim.iter().map(dim).collect()
        }
    };
    let element = element_of(value)
        .map_or("?", |e| e.as_str_name())
        .to_string();
    GraphValue {
        name: value.name.clone(),
        element,
        shape,
    }
}

/// Gives each input dimension that is left open a symbol of its own: without one tract can't
/// optimise for any shape.
fn name_open_dimensions(model: &mut pb::ModelProto) {
    use pb::tensor_shape_proto::dimension::Value;
    let Some(graph) = &mut model.graph else {
        return;
    };
    for (index, input) in graph.input.iter_mut().enumerate() {
        let Some(pb::type_proto::Value::TensorType(tensor)) =
            input.r#type.as_mut().and_then(|t| t.value.as_mut())
        else {
            continue;
        };
        let dims = tensor.shape.as_mut().map_or(&mut [][..], |s| &mut s.dim);
        for (axis, dim) in dims.iter_mut().enumerate() {
            let is_open = match &dim.value {
                None => true,
                Some(Value::DimValue(v)) => *v < 0,
                Some(Value::DimParam(name)) => name.is_empty() || name == "?",
            };
            if is_open {
                dim.value = Some(Value::DimParam(format!("open_{index}_{axis}")));
            }
        }
    }
}
