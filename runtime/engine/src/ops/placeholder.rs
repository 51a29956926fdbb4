//! Stands for one of our ops while tract works out types and shapes; see [`super::bind`].

use tract_core::ops::cast::cast;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use crate::rewrite;

/// Reads one of our nodes from a rewritten proto.
pub(crate) fn build(
    _ctx: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let find = |name: &str| {
        node.attribute
            .iter()
            .find(|attribute| attribute.name == name)
    };
    let (Some(spec), Some(columns)) = (find("spec"), find("columns")) else {
        bail!("node {} is not of the engine's own making", node.name);
    };
    ensure!(
        node.domain == rewrite::DOMAIN,
        "{} is the engine's own",
        node.op_type
    );
    let placeholder = Placeholder {
        op_type: node.op_type.clone(),
        spec: usize::try_from(spec.i)?,
        columns: columns.ints.iter().copied().collect(),
        looks_up: node.op_type == rewrite::GATHER,
        half: find("half").is_some_and(|half| half.i != 0),
        streams: find("streams").and_then(|count| usize::try_from(count.i).ok()),
    };
    Ok((expand(placeholder), vec![]))
}

/// The index of the description that a placeholder stands for.
pub(crate) fn spec_index(op: &dyn TypedOp) -> Option<usize> {
    op.downcast_ref::<Placeholder>()
        .map(|placeholder| placeholder.spec)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Placeholder {
    op_type: String,
    spec: usize,
    /// The last dimension of each output; -1 where it is the input's.
    columns: TVec<i64>,
    /// The output has one axis more than the input.
    looks_up: bool,
    /// A look-up's output is f16.
    half: bool,
    /// How many inputs are activations; all if absent. Truth values among the others stay as they are.
    streams: Option<usize>,
}

impl Placeholder {
    fn output_shape(&self, input: &[TDim], columns: i64) -> TVec<TDim> {
        let mut shape: TVec<TDim> = input.iter().cloned().collect();
        if self.looks_up {
            shape.push(columns.to_dim());
        } else if let Some(last) = shape.last_mut().filter(|_| columns >= 0) {
            *last = columns.to_dim();
        }
        shape
    }
}

impl Expansion for Placeholder {
    fn name(&self) -> StaticName {
        self.op_type.clone().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.columns.len())
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.columns.len())?;
        let Some(input) = inputs.first() else {
            bail!("no input")
        };
        for (output, &columns) in outputs.iter().zip(&self.columns) {
            match (self.looks_up, self.half) {
                (true, true) => s.equals(&output.datum_type, f16::datum_type())?,
                (true, false) => s.equals(&output.datum_type, f32::datum_type())?,
                (false, _) => s.equals(&output.datum_type, &input.datum_type)?,
            }
            s.given(&input.shape, move |s, shape| {
                s.equals(&output.shape, self.output_shape(&shape, columns))
            })?;
        }
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let wanted = if self.looks_up {
            i64::datum_type()
        } else {
            f32::datum_type()
        };
        let mut half = self.half;
        let mut sources: TVec<OutletId> = tvec!();
        for (index, &input) in inputs.iter().enumerate() {
            let given = model.outlet_fact(input)?.datum_type;
            let is_stream = self.streams.is_none_or(|count| index < count);
            if !is_stream && given == bool::datum_type() {
                sources.push(input);
                continue;
            }
            half |= given == f16::datum_type();
            sources.push(match given == wanted {
                true => input,
                false => model.wire_node(format!("{prefix}.in{index}"), cast(wanted), &[input])?[0],
            });
        }
        let outputs = model.wire_node(prefix, self.clone(), &sources)?;
        if !half {
            return Ok(outputs);
        }
        let half = |(index, output)| {
            let name = format!("{prefix}.out{index}");
            Ok(model.wire_node(name, cast(f16::datum_type()), &[output])?[0])
        };
        outputs.into_iter().enumerate().map(half).collect()
    }
}

impl Op for Placeholder {
    fn name(&self) -> StaticName {
        self.op_type.clone().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Placeholder {
    not_out_of_plan!();
}

impl TypedOp for Placeholder {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let Some(input) = inputs.first() else {
            bail!("no input")
        };
        if !self.looks_up {
            let rows =
                |fact: &TypedFact| fact.shape.iter().rev().skip(1).cloned().collect::<Vec<_>>();
            let streams = inputs.iter().take(self.streams.unwrap_or(usize::MAX));
            ensure!(
                streams.into_iter().all(|other| rows(other) == rows(input)),
                "the inputs of {} have different shapes",
                self.op_type
            );
        }
        let fact = |&columns| f32::fact(self.output_shape(&input.shape, columns));
        Ok(self.columns.iter().map(fact).collect())
    }

    as_op!();
}
