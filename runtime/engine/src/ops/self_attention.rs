//! Attention of all tokens of a sentence over all of them: encoders.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::MatrixMut;
use furlong_core::attention::{Mask, TiledShape, attend_tiled, tiled_scratch};
use tract_core::internal::*;

use super::{Machine, core_error, equal_by_weights, floats};
use crate::rewrite::{AttentionInputs, SelfAttentionSpec};

type CoreError = furlong_core::Error;

/// Queries, keys and values `[batch, tokens, columns]` (or all three in one), and a mask that spreads to
/// `[batch, heads, tokens, positions]` if there is one, to `[batch, tokens, heads · value_dim]`.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    spec: Arc<SelfAttentionSpec>,
    machine: Machine,
}

equal_by_weights!(SelfAttention, spec);

/// Rows of numbers of a whole batch, with the columns of the first head.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    /// Where the first head's columns start.
    start: usize,
    /// From one row to the next.
    stride: usize,
}

impl<'a> Rows<'a> {
    /// From the first row of a sentence of `tokens` rows on, at `column`.
    fn of(&self, sentence: usize, tokens: usize, column: usize) -> &'a [f32] {
        let start = sentence * tokens * self.stride + self.start + column;
        self.values.get(start..).unwrap_or_default()
    }
}

/// A mask's numbers.
#[derive(Clone, Copy)]
enum MaskRows<'a> {
    None,
    Keep(&'a [bool]),
    Add(&'a [f32]),
}

/// A mask, and how far apart its parts lie; 0 where one part serves all.
struct MaskView<'a> {
    rows: MaskRows<'a>,
    sentence: usize,
    head: usize,
    token: usize,
}

impl SelfAttention {
    /// The layer that `spec` describes.
    pub(crate) fn new(spec: SelfAttentionSpec, machine: &Machine) -> SelfAttention {
        SelfAttention {
            spec: Arc::new(spec),
            machine: machine.clone(),
        }
    }

    /// Columns of the queries, of the keys and of the values.
    fn widths(&self) -> [usize; 3] {
        let spec = &*self.spec;
        [
            spec.heads * spec.head_dim,
            spec.kv_heads * spec.head_dim,
            spec.kv_heads * spec.value_dim,
        ]
    }

    fn streams(&self) -> usize {
        self.spec.inputs.count()
    }

    /// Attends with the query heads whose columns of the output are `columns`.
    fn part(
        &self,
        operands: &[Rows<'_>; 3],
        mask: &MaskView<'_>,
        sentence: usize,
        tokens: [usize; 2],
        columns: Range<usize>,
        out: MatrixMut<'_>,
    ) -> Result<(), CoreError> {
        let spec = &*self.spec;
        let [queries, keys, values] = operands;
        let [tokens, positions] = tokens;
        let shape = TiledShape {
            tokens,
            positions,
            head_dim: spec.head_dim,
            value_dim: spec.value_dim,
            query_stride: queries.stride,
            key_stride: keys.stride,
            value_stride: values.stride,
            scale: spec.scale,
        };
        let mut scratch = vec![0.0; tiled_scratch(&shape)?];
        let mut rest = out;
        for head in columns.start / spec.value_dim..columns.end / spec.value_dim {
            let (own, after) = rest.split_at_column(spec.value_dim);
            rest = after;
            let kv_head = head / (spec.heads / spec.kv_heads);
            attend_tiled(
                self.machine.isa,
                &shape,
                queries.of(sentence, tokens, head * spec.head_dim),
                keys.of(sentence, positions, kv_head * spec.head_dim),
                values.of(sentence, positions, kv_head * spec.value_dim),
                mask.of(sentence, head, tokens, positions),
                &mut scratch,
                own,
            )?;
        }
        Ok(())
    }
}

impl<'a> MaskView<'a> {
    /// What of a mask of shape `dims`, at most four axes, belongs to which part of a batch.
    fn new(rows: MaskRows<'a>, dims: &[usize], full: [usize; 4]) -> TractResult<MaskView<'a>> {
        let mut shape = [1; 4];
        ensure!(dims.len() <= 4, "a mask of {} axes", dims.len());
        let skipped = 4 - dims.len();
        shape
            .iter_mut()
            .skip(skipped)
            .zip(dims)
            .for_each(|(to, &dim)| *to = dim);
        let fits = shape
            .iter()
            .zip(full)
            .all(|(&dim, full)| dim == full || dim == 1);
        ensure!(
            fits && shape[3] == full[3],
            "a mask {dims:?} for attention {full:?}"
        );
        let step = |axis: usize| match shape[axis] {
            1 => 0,
            _ => shape[axis + 1..].iter().product(),
        };
        Ok(MaskView {
            rows,
            sentence: step(0),
            head: step(1),
            token: step(2),
        })
    }

    /// The mask of one head of one sentence. Rows that are all alike are given as one: most masks only hide padding.
    fn of(&self, sentence: usize, head: usize, tokens: usize, positions: usize) -> Mask<'a> {
        let start = sentence * self.sentence + head * self.head;
        match self.rows {
            MaskRows::None => Mask::None,
            MaskRows::Keep(rows) => {
                let rows = rows.get(start..).unwrap_or_default();
                let stride = self.stride(rows, tokens, positions);
                Mask::Keep { rows, stride }
            }
            MaskRows::Add(rows) => {
                let rows = rows.get(start..).unwrap_or_default();
                let stride = self.stride(rows, tokens, positions);
                Mask::Add { rows, stride }
            }
        }
    }

    fn stride<T: PartialEq>(&self, rows: &[T], tokens: usize, positions: usize) -> usize {
        let mut all = rows.chunks_exact(positions.max(1)).take(tokens);
        let alike =
            self.token == positions && all.next().is_some_and(|first| all.all(|row| row == first));
        if alike { 0 } else { self.token }
    }
}

impl AttentionInputs {
    /// How many inputs bring queries, keys and values.
    pub(crate) fn count(self) -> usize {
        match self {
            AttentionInputs::Separate => 3,
            AttentionInputs::Packed => 1,
        }
    }
}

impl Op for SelfAttention {
    fn name(&self) -> StaticName {
        "SelfAttention".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SelfAttention {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let spec = &*self.spec;
        let streams = self.streams();
        ensure!(
            inputs.len() == streams + usize::from(spec.masked),
            "attention has {} inputs",
            inputs.len()
        );
        let widths = self.widths();
        let stride: usize = widths.iter().sum();
        let mut start = 0;
        let mut operands = [Rows {
            values: &[],
            start: 0,
            stride,
        }; 3];
        for (index, (rows, width)) in operands.iter_mut().zip(widths).enumerate() {
            match spec.inputs {
                AttentionInputs::Packed => {
                    *rows = Rows {
                        values: floats(&inputs[0])?,
                        start,
                        stride,
                    };
                    start += width;
                }
                AttentionInputs::Separate => {
                    *rows = Rows {
                        values: floats(&inputs[index])?,
                        start: 0,
                        stride: width,
                    };
                }
            }
        }
        let (&[batch, tokens, _], &[_, positions, _]) =
            (inputs[0].shape(), inputs[usize::from(streams > 1)].shape())
        else {
            bail!("attention wants three axes")
        };
        let full = [batch, spec.heads, tokens, positions];
        let mask = match inputs.get(streams) {
            None => MaskView::new(MaskRows::None, &full, full)?,
            Some(mask) => {
                let view = mask.try_as_plain_ram()?;
                let rows = if mask.datum_type() == bool::datum_type() {
                    match view.as_slice::<bool>()? {
                        rows if rows.iter().all(|&keep| keep) => MaskRows::None,
                        rows => MaskRows::Keep(rows),
                    }
                } else {
                    MaskRows::Add(floats(mask)?)
                };
                MaskView::new(rows, mask.shape(), full)?
            }
        };
        let width = spec.heads * spec.value_dim;
        // SAFETY: plain numbers, and `attend_tiled` writes all of them or fails.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&[batch, tokens, width])? };
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        for (sentence, out) in out.chunks_exact_mut((tokens * width).max(1)).enumerate() {
            let out = MatrixMut::new(out, tokens, width).map_err(core_error)?;
            let work = |columns: Range<usize>, part: MatrixMut<'_>| {
                self.part(
                    &operands,
                    &mask,
                    sentence,
                    [tokens, positions],
                    columns,
                    part,
                )
            };
            let done = self.machine.pool.for_columns(out, spec.value_dim, &work);
            done.map_err(core_error)?;
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for SelfAttention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let spec = &*self.spec;
        let streams = inputs.get(..self.streams()).unwrap_or_default();
        let widths = self.widths();
        let fits = match (spec.inputs, streams) {
            (AttentionInputs::Packed, [packed]) => {
                packed.rank() == 3 && packed.shape[2] == widths.iter().sum::<usize>().to_dim()
            }
            (AttentionInputs::Separate, [_, _, _]) => streams
                .iter()
                .zip(widths)
                .all(|(fact, width)| fact.rank() == 3 && fact.shape[2] == width.to_dim()),
            _ => false,
        };
        ensure!(
            fits,
            "queries, keys and values don't have the columns of their heads"
        );
        let width = (spec.heads * spec.value_dim).to_dim();
        let shape = &inputs[0].shape;
        Ok(tvec!(f32::fact([
            shape[0].clone(),
            shape[1].clone(),
            width
        ])))
    }

    as_op!();
}
