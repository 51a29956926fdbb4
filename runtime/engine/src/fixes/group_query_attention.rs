//! Microsoft's `GroupQueryAttention` where the caller keeps the cache and hands it in and out: packed
//! queries too, and a prompt of any length behind a past of any length. tract takes either an empty
//! past or one token. Decoders that run in a session have the cache in our own op instead.

use furlong_core::attention::{AttentionShape, Visible, attend};
use furlong_core::rope::{RopePairs, rope};
use furlong_core::{Floats, Isa, MatrixMut};
use tract_core::internal::*;
use tract_core::ops::cast::wire_cast;
use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let int = |name: &str| {
        node.get_attr_opt::<i64>(name)
            .map(Option::unwrap_or_default)
    };
    for name in ["smooth_softmax", "qk_output", "sliding_window_cache"] {
        ensure!(
            int(name)? == 0,
            "GroupQueryAttention with {name} is not supported"
        );
    }
    ensure!(
        node.get_attr_opt::<i64>("causal")?.unwrap_or(1) != 0,
        "GroupQueryAttention that isn't causal is not supported"
    );
    let places: Vec<Option<usize>> = optional_inputs(node).take(node.input.len()).collect();
    let place = |index: usize| places.get(index).copied().flatten();
    ensure!(
        (9..places.len()).all(|index| place(index).is_none()),
        "GroupQueryAttention with positions, a bias, sinks or a quantised cache is not supported"
    );
    let pair = |first: usize| match (place(first), place(first + 1)) {
        (Some(a), Some(b)) => Ok(Some([a, b])),
        (None, None) => Ok(None),
        _ => bail!(
            "GroupQueryAttention has only one of inputs {first} and {}",
            first + 1
        ),
    };
    let tables = pair(7)?;
    let do_rotary = int("do_rotary")? != 0;
    ensure!(
        !do_rotary || tables.is_some(),
        "GroupQueryAttention turns positions without tables"
    );
    let heads: usize = node.get_attr("num_heads")?;
    let kv_heads: usize = node.get_attr("kv_num_heads")?;
    ensure!(
        kv_heads > 0 && heads > 0 && heads.is_multiple_of(kv_heads),
        "{heads} query heads don't share {kv_heads} key heads"
    );
    let op = GroupQueryAttention {
        heads,
        kv_heads,
        scale: node
            .get_attr_opt::<f32>("scale")?
            .filter(|scale| *scale != 0.0),
        softcap: node
            .get_attr_opt::<f32>("softcap")?
            .filter(|cap| *cap > 0.0),
        window: usize::try_from(node.get_attr_opt::<i64>("local_window_size")?.unwrap_or(-1))
            .ok()
            .filter(|window| *window > 0),
        interleaved: int("rotary_interleaved")? != 0,
        key_value: pair(1)?,
        past: pair(3)?,
        tables: tables.filter(|_| do_rotary),
        lengths: place(5),
        outputs: node.output.iter().filter(|name| !name.is_empty()).count(),
    };
    Ok((expand(op), vec![]))
}

/// The operator, with the places of its optional inputs among those that are there.
#[derive(Debug, Clone, PartialEq)]
struct GroupQueryAttention {
    heads: usize,
    kv_heads: usize,
    scale: Option<f32>,
    softcap: Option<f32>,
    window: Option<usize>,
    interleaved: bool,
    key_value: Option<[usize; 2]>,
    past: Option<[usize; 2]>,
    tables: Option<[usize; 2]>,
    lengths: Option<usize>,
    outputs: usize,
}

/// No field of a parsed node is "not a number": a scale or cap that is gives no equal operators, no more.
impl Eq for GroupQueryAttention {}

impl GroupQueryAttention {
    /// Columns of a head, from the columns of the queries.
    fn head_dim(&self, columns: &TDim) -> TDim {
        let heads = match self.key_value {
            Some(_) => self.heads,
            None => self.heads + 2 * self.kv_heads,
        };
        columns.clone() / heads
    }

    /// The shapes of the three outputs.
    fn shapes(&self, query: &[TDim], past: Option<&TDim>) -> TractResult<[TVec<TDim>; 3]> {
        let [batch, tokens, columns] = query else {
            bail!("queries have three axes")
        };
        let dim = self.head_dim(columns);
        let total = past.map_or_else(|| tokens.clone(), |past| past.clone() + tokens);
        let present = tvec!(batch.clone(), self.kv_heads.to_dim(), total, dim.clone());
        let output = tvec!(batch.clone(), tokens.clone(), dim * self.heads);
        Ok([output, present.clone(), present])
    }
}

impl Expansion for GroupQueryAttention {
    fn name(&self) -> StaticName {
        "GroupQueryAttention".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.outputs)?;
        for output in outputs {
            s.equals(&output.datum_type, &inputs[0].datum_type)?;
        }
        match self.past {
            None => s.given(&inputs[0].shape, move |s, query| {
                for (output, shape) in outputs.iter().zip(self.shapes(&query, None)?) {
                    s.equals(&output.shape, shape)?;
                }
                Ok(())
            }),
            Some([past, _]) => s.given_2(
                &inputs[0].shape,
                &inputs[past].shape,
                move |s, query, past| {
                    for (output, shape) in outputs.iter().zip(self.shapes(&query, past.get(2))?) {
                        s.equals(&output.shape, shape)?;
                    }
                    Ok(())
                },
            ),
        }
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let element = model.outlet_fact(inputs[0])?.datum_type;
        let mut wires = TVec::new();
        for (index, &input) in inputs.iter().enumerate() {
            // Lengths stay whole numbers.
            let is_float = model.outlet_fact(input)?.datum_type.is_float();
            wires.push(match is_float {
                true => wire_cast(
                    format!("{prefix}.f32.{index}"),
                    model,
                    &[input],
                    f32::datum_type(),
                )?[0],
                false => input,
            });
        }
        let outputs = model.wire_node(prefix, self.clone(), &wires)?;
        wire_cast(format!("{prefix}.out"), model, &outputs, element)
    }
}

impl Op for GroupQueryAttention {
    fn name(&self) -> StaticName {
        "GroupQueryAttention".into()
    }
    op_as_typed_op!();
}

fn f32s(value: &TValue) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}

impl EvalOp for GroupQueryAttention {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let &[batch, tokens, columns] = inputs[0].shape() else {
            bail!("queries have three axes")
        };
        let dim = self.head_dim(&columns.to_dim()).to_usize()?;
        let past_len = match self.past {
            Some([key, value]) => {
                let shape = inputs[key].shape();
                let fits =
                    matches!(*shape, [b, h, _, d] if (b, h, d) == (batch, self.kv_heads, dim));
                ensure!(
                    fits && shape == inputs[value].shape(),
                    "the past doesn't fit: {shape:?}"
                );
                shape[2]
            }
            None => 0,
        };
        let total = past_len + tokens;
        if let Some(lengths) = self.lengths {
            // Each is the index of the last token.
            let lengths = inputs[lengths].cast_to::<i64>()?;
            let whole = lengths
                .try_as_plain_ram()?
                .as_slice::<i64>()?
                .iter()
                .all(|&last| last + 1 == total as i64);
            ensure!(
                whole,
                "sequences of different lengths in one batch are not supported; run them one by one"
            );
        }
        let (q_columns, kv_columns) = (self.heads * dim, self.kv_heads * dim);
        let queries = f32s(&inputs[0])?;
        // Where each operand's rows start in its tensor, and how far apart they are.
        let (keys, values, key_at, value_at) = match self.key_value {
            Some([key, value]) => {
                for operand in [key, value] {
                    ensure!(
                        inputs[operand].shape() == [batch, tokens, kv_columns],
                        "keys or values don't fit"
                    );
                }
                (
                    f32s(&inputs[key])?,
                    f32s(&inputs[value])?,
                    (0, kv_columns),
                    (0, kv_columns),
                )
            }
            None => (
                queries,
                queries,
                (q_columns, columns),
                (q_columns + kv_columns, columns),
            ),
        };
        let wanted = if self.key_value.is_some() {
            q_columns
        } else {
            q_columns + 2 * kv_columns
        };
        ensure!(
            columns == wanted && dim > 0,
            "{columns} columns don't fit {} heads",
            self.heads
        );
        let turn = |head: &mut [f32], position: usize| -> TractResult<()> {
            let Some([cos, sin]) = self.tables else {
                return Ok(());
            };
            let half = inputs[cos].shape().last().copied().unwrap_or(0);
            let range = position * half..(position + 1) * half;
            let (Some(cos), Some(sin)) = (
                f32s(&inputs[cos])?.get(range.clone()),
                f32s(&inputs[sin])?.get(range),
            ) else {
                bail!("position {position} is beyond the tables");
            };
            let pairs = if self.interleaved {
                RopePairs::Neighbours
            } else {
                RopePairs::Halves
            };
            rope(isa(), pairs, head, cos, sin).map_err(|e| format_err!("{e}"))
        };
        let shape = [batch, self.kv_heads, total, dim];
        let mut present = [Tensor::zero::<f32>(&shape)?, Tensor::zero::<f32>(&shape)?];
        for (index, (source, (start, stride))) in
            [(keys, key_at), (values, value_at)].into_iter().enumerate()
        {
            let mut view = present[index].try_as_plain_ram_mut()?;
            let present = view.as_slice_mut::<f32>()?;
            for lane in 0..batch * self.kv_heads {
                let (sequence, head) = (lane / self.kv_heads, lane % self.kv_heads);
                let rows = &mut present[lane * total * dim..(lane + 1) * total * dim];
                if let Some(past) = self.past {
                    let past = f32s(&inputs[past[index]])?;
                    rows[..past_len * dim]
                        .copy_from_slice(&past[lane * past_len * dim..][..past_len * dim]);
                }
                for (token, row) in rows[past_len * dim..].chunks_exact_mut(dim).enumerate() {
                    let at = (sequence * tokens + token) * stride + start + head * dim;
                    row.copy_from_slice(&source[at..at + dim]);
                    if index == 0 {
                        turn(row, past_len + token)?;
                    }
                }
            }
        }
        let group = self.heads / self.kv_heads;
        let attention = AttentionShape {
            tokens,
            group,
            head_dim: dim,
            value_dim: dim,
            query_stride: group * dim,
            scale: self.scale.unwrap_or(1.0 / (dim as f32).sqrt()),
            softcap: self.softcap,
            visible: Visible::Causal {
                first: past_len,
                window: self.window,
            },
        };
        let mut output = Tensor::zero::<f32>(&[batch, tokens, q_columns])?;
        let mut turned = vec![0.0f32; tokens * group * dim];
        let mut found = vec![0.0f32; tokens * group * dim];
        let (all_keys, all_values) = (
            present[0].try_as_plain_ram()?.as_slice::<f32>()?,
            present[1].try_as_plain_ram()?.as_slice::<f32>()?,
        );
        let mut view = output.try_as_plain_ram_mut()?;
        let out = view.as_slice_mut::<f32>()?;
        for lane in (0..batch * self.kv_heads).filter(|_| tokens > 0) {
            let (sequence, head) = (lane / self.kv_heads, lane % self.kv_heads);
            for (token, row) in turned.chunks_exact_mut(group * dim).enumerate() {
                let at = (sequence * tokens + token) * columns + head * group * dim;
                row.copy_from_slice(&queries[at..at + group * dim]);
                for query in row.chunks_exact_mut(dim) {
                    turn(query, past_len + token)?;
                }
            }
            let range = lane * total * dim..(lane + 1) * total * dim;
            let (keys, values) = (
                Floats::F32(&all_keys[range.clone()]),
                Floats::F32(&all_values[range]),
            );
            let part =
                MatrixMut::new(&mut found, tokens, group * dim).map_err(|e| format_err!("{e}"))?;
            attend(isa(), &attention, &turned, keys, values, part)
                .map_err(|e| format_err!("{e}"))?;
            for (token, row) in found.chunks_exact(group * dim).enumerate() {
                let at = (sequence * tokens + token) * q_columns + head * group * dim;
                out[at..at + group * dim].copy_from_slice(row);
            }
        }
        let [key, value] = present;
        let outputs = [output, key, value].into_iter().take(self.outputs);
        Ok(outputs.map(Tensor::into_tvalue).collect())
    }
}

fn isa() -> Isa {
    static BEST: std::sync::LazyLock<Isa> = std::sync::LazyLock::new(Isa::detect);
    *BEST
}

impl TypedOp for GroupQueryAttention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let past = self
            .past
            .and_then(|[key, _]| inputs[key].shape.get(2).cloned());
        let shapes = self.shapes(&inputs[0].shape, past.as_ref())?;
        Ok(shapes
            .into_iter()
            .take(self.outputs)
            .map(|shape| f32::fact(&*shape))
            .collect())
    }
    as_op!();
}
