//! `QuantizeLinear` as the standard defines it: `saturate(round(x / scale) + zero_point)`, ties to
//! even. tract multiplies by the reciprocal instead, which rounds some numbers to another integer,
//! and takes a quantised tensor for the start of a fixed-point chain, which a quantise-dequantise
//! graph isn't.

use tract_core::internal::*;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let block_size = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
    ensure!(block_size == 0, "QuantizeLinear in blocks is not supported");
    let axis = node.get_attr_opt("axis")?.unwrap_or(1);
    let has_zero_point = node.input.get(2).is_some_and(|name| !name.is_empty());
    Ok((
        expand(QuantizeLinear {
            axis,
            has_zero_point,
        }),
        vec![],
    ))
}

#[derive(Debug, Clone)]
struct QuantizeLinear {
    axis: i64,
    has_zero_point: bool,
}

impl Expansion for QuantizeLinear {
    fn name(&self) -> StaticName {
        "QuantizeLinear".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2 + usize::from(self.has_zero_point))?;
        check_output_arity(outputs, 1)?;
        if self.has_zero_point {
            s.equals(&outputs[0].datum_type, &inputs[2].datum_type)?;
        } else {
            s.equals(&outputs[0].datum_type, u8::datum_type())?;
        }
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let constant = |index: usize| -> TractResult<Arc<Tensor>> {
            let konst = model.outlet_fact(inputs[index])?.konst.clone();
            konst.context("the scale and zero point of QuantizeLinear must be constant")
        };
        let scales = constant(1)?
            .cast_to::<f32>()?
            .try_as_plain_ram()?
            .as_slice::<f32>()?
            .to_vec();
        let (element, zero_points) = if self.has_zero_point {
            let zero_point = constant(2)?;
            let numbers = zero_point.cast_to::<f32>()?;
            (
                zero_point.datum_type(),
                numbers.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
            )
        } else {
            (u8::datum_type(), vec![0.0])
        };
        let range = match element.unquantized() {
            DatumType::U8 => (0.0, 255.0),
            DatumType::I8 => (-128.0, 127.0),
            DatumType::U16 => (0.0, 65535.0),
            DatumType::I16 => (-32768.0, 32767.0),
            other => bail!("QuantizeLinear to {other:?} is not supported"),
        };
        let shape = model.outlet_fact(inputs[0])?.shape.clone();
        let axis = match scales.len() {
            0 => bail!("QuantizeLinear has no scale"),
            1 => None,
            count => {
                let rank = i64::try_from(shape.rank())?;
                let axis = if self.axis < 0 {
                    self.axis + rank
                } else {
                    self.axis
                };
                ensure!(
                    (0..rank).contains(&axis),
                    "QuantizeLinear along axis {} of {rank}",
                    self.axis
                );
                let axis = usize::try_from(axis)?;
                ensure!(
                    shape[axis] == count.to_dim(),
                    "QuantizeLinear has {count} scales for {}",
                    shape[axis]
                );
                Some(axis)
            }
        };
        ensure!(
            zero_points.len() == scales.len() || zero_points.len() == 1,
            "zero points don't fit the scales"
        );
        model.wire_node(
            prefix,
            Quantize {
                element,
                scales,
                zero_points,
                range,
                axis,
            },
            &inputs[..1],
        )
    }
}

/// The operator itself, with one scale or one for each index along `axis`.
#[derive(Debug, Clone, PartialEq)]
struct Quantize {
    element: DatumType,
    scales: Vec<f32>,
    zero_points: Vec<f32>,
    range: (f32, f32),
    axis: Option<usize>,
}

/// Scales that are not a number are never equal to themselves, which only costs a missed merge.
impl Eq for Quantize {}

impl Op for Quantize {
    fn name(&self) -> StaticName {
        "Quantize".into()
    }
    op_as_typed_op!();
}

impl Quantize {
    fn quantise<T: Datum + Copy>(
        &self,
        input: &Tensor,
        convert: impl Fn(f32) -> T,
    ) -> TractResult<Tensor> {
        let floats = input.cast_to::<f32>()?;
        let plain = floats.try_as_plain_ram()?;
        let floats = plain.as_slice::<f32>()?;
        let run = self
            .axis
            .map_or(floats.len(), |axis| {
                input.shape()[axis + 1..].iter().product()
            })
            .max(1);
        let (lowest, highest) = self.range;
        let last_zero_point = self.zero_points.len() - 1;
        let mut codes = Vec::with_capacity(floats.len());
        for (index, floats) in floats.chunks(run).enumerate() {
            let index = index % self.scales.len();
            let scale = self.scales[index];
            let zero_point = self.zero_points[index.min(last_zero_point)];
            let code = |x: &f32| {
                convert(((x / scale).round_ties_even() + zero_point).clamp(lowest, highest))
            };
            codes.extend(floats.iter().map(code));
        }
        let mut output = Tensor::from_shape(input.shape(), &codes)?;
        // SAFETY: `element` is the quantised or plain spelling of `T`: both have the same layout.
        unsafe { output.set_datum_type(self.element) };
        Ok(output)
    }
}

impl EvalOp for Quantize {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let output = match self.element.unquantized() {
            DatumType::U8 => self.quantise(input, |x| x as u8)?,
            DatumType::I8 => self.quantise(input, |x| x as i8)?,
            DatumType::U16 => self.quantise(input, |x| x as u16)?,
            _ => self.quantise(input, |x| x as i16)?,
        };
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Quantize {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(self.element.fact(inputs[0].shape.clone())))
    }
    as_op!();
}
