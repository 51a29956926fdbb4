//! Causal attention over everything a session has seen: turns queries and keys to their positions, appends
//! keys and values to the cache, and attends, in one op whose state is the cache.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::attention::{AttentionShape, Visible, attend, attend_q8};
use furlong_core::rope::{RopePairs, rope};
use furlong_core::{Isa, MatrixMut, norm};
use tract_core::internal::*;

use super::kv_cache::{Cached, KvCache, Slot};
use super::{Machine, Scratch, SessionScratch, core_error, floats};
use crate::rewrite::{AttentionInputs, AttentionSpec, HeadNorm, RopeTable};

type CoreError = furlong_core::Error;

/// Multiply-adds below which the work isn't worth sharing among threads.
/// Tests share all.
const WORTH_SHARING: usize = if cfg!(test) { 1 } else { 1 << 17 };

/// Heads of up to so many columns are copied to the stack while they are normalised.
const SMALL_HEAD: usize = 256;

/// Tokens of a prompt that a thread takes at once.
const TOKENS_AT_ONCE: usize = 8;

/// Queries, keys and values `[1, tokens, columns]` (or all three in one) to `[1, tokens, query columns]`.
#[derive(Debug, Clone)]
pub(crate) struct KvAttention {
    spec: Arc<AttentionSpec>,
    machine: Machine,
}

impl PartialEq for KvAttention {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec)
    }
}

impl Eq for KvAttention {}

/// One session's cache of one layer.
#[derive(Debug, Clone)]
pub(crate) struct KvState {
    cache: KvCache,
}

/// A view of rows of numbers that lie `stride` apart.
#[derive(Clone, Copy, Default)]
struct Rows<'a> {
    values: &'a [f32],
    start: usize,
    stride: usize,
    columns: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, index: usize) -> &'a [f32] {
        let start = self.start + index * self.stride;
        self.values
            .get(start..start + self.columns)
            .unwrap_or_default()
    }
}

impl KvAttention {
    /// The layer that `spec` describes.
    pub(crate) fn new(spec: AttentionSpec, machine: &Machine) -> TractResult<KvAttention> {
        ensure!(
            spec.kv_heads > 0 && spec.head_dim > 0,
            "a layer without heads"
        );
        ensure!(
            spec.heads.is_multiple_of(spec.kv_heads),
            "query heads don't divide among key heads"
        );
        if let Some(table) = &spec.rope {
            ensure!(
                table.rotary_dim <= spec.head_dim,
                "positions turn more than a head"
            );
        }
        Ok(KvAttention {
            spec: Arc::new(spec),
            machine: machine.clone(),
        })
    }

    /// What the layer is.
    pub(crate) fn spec(&self) -> &AttentionSpec {
        &self.spec
    }

    /// Queries, keys and values among the inputs.
    fn operands<'a>(&self, inputs: &'a [TValue]) -> TractResult<([Rows<'a>; 3], usize)> {
        let spec = &*self.spec;
        let widths = [spec.query_columns(), spec.kv_columns(), spec.kv_columns()];
        let mut rows = [Rows::default(); 3];
        match (spec.inputs, inputs) {
            (AttentionInputs::Packed, [packed]) => {
                let values = floats(packed)?;
                let stride = widths.iter().sum();
                let mut start = 0;
                for (rows, columns) in rows.iter_mut().zip(widths) {
                    *rows = Rows {
                        values,
                        start,
                        stride,
                        columns,
                    };
                    start += columns;
                }
            }
            (AttentionInputs::Separate, [_, _, _]) => {
                for ((rows, input), columns) in rows.iter_mut().zip(inputs).zip(widths) {
                    *rows = Rows {
                        values: floats(input)?,
                        start: 0,
                        stride: columns,
                        columns,
                    };
                }
            }
            _ => bail!("attention has {} inputs", inputs.len()),
        }
        let tokens = rows[0].values.len() / rows[0].stride;
        let whole = rows
            .iter()
            .all(|rows| rows.values.len() == tokens * rows.stride);
        ensure!(whole, "queries, keys and values are of different lengths");
        Ok((rows, tokens))
    }

    /// Normalises the heads of one token and turns them to its position.
    fn place(
        &self,
        heads: &mut [f32],
        position: usize,
        head_norm: Option<&HeadNorm>,
    ) -> Result<(), CoreError> {
        let isa = self.machine.isa;
        for head in heads.chunks_exact_mut(self.spec.head_dim) {
            if let Some(head_norm) = head_norm {
                normalise_head(isa, head_norm, head)?;
            }
            if let Some(table) = &self.spec.rope {
                let (cos, sin) = table.at(position).ok_or(CoreError::Shape)?;
                let pairs = if table.interleaved {
                    RopePairs::Neighbours
                } else {
                    RopePairs::Halves
                };
                rope(isa, pairs, head, cos, sin)?;
            }
        }
        Ok(())
    }

    /// Copies rows of heads to `out`, and normalises and turns them to the positions from `first` on.
    fn place_all(
        &self,
        rows: Rows<'_>,
        tokens: usize,
        first: usize,
        head_norm: Option<&HeadNorm>,
        out: &mut Vec<f32>,
    ) -> Result<(), CoreError> {
        out.resize(tokens * rows.columns, 0.0);
        let pool = &self.machine.pool;
        pool.for_rows(out, rows.columns, TOKENS_AT_ONCE, |token, part| {
            for (index, heads) in part.chunks_exact_mut(rows.columns).enumerate() {
                let row = rows.row(token + index);
                if row.len() != heads.len() {
                    return Err(CoreError::Shape);
                }
                heads.copy_from_slice(row);
                self.place(heads, first + token + index, head_norm)?;
            }
            Ok(())
        })
    }

    /// Appends all tokens to the cache, and leaves their queries in `scratch`, ready.
    fn append(
        &self,
        state: &mut KvState,
        scratch: &mut Scratch,
        operands: &[Rows<'_>; 3],
        tokens: usize,
    ) -> Result<(), CoreError> {
        let &[queries, keys, values] = operands;
        let (first, spec) = (state.cache.len(), &*self.spec);
        let (query_norm, key_norm) = (spec.query_norm.as_ref(), spec.key_norm.as_ref());
        self.place_all(queries, tokens, first, query_norm, &mut scratch.queries)?;
        self.place_all(keys, tokens, first, key_norm, &mut scratch.keys)?;
        let all_keys = &scratch.keys;
        let write = |mut slot: Slot<'_>| {
            let columns = slot.head * spec.head_dim..(slot.head + 1) * spec.head_dim;
            for (index, token) in slot.tokens.clone().enumerate() {
                let key = all_keys.get(token * keys.columns..).unwrap_or_default();
                let key = key.get(columns.clone()).unwrap_or_default();
                let value = values.row(token).get(columns.clone()).unwrap_or_default();
                slot.write(self.machine.isa, index, key, value)?;
            }
            Ok(())
        };
        if tokens <= TOKENS_AT_ONCE {
            state
                .cache
                .slots(tokens, TOKENS_AT_ONCE)
                .try_for_each(write)?;
        } else {
            let slots = state.cache.slots(tokens, TOKENS_AT_ONCE).collect();
            self.machine.pool.for_each(slots, write)?;
        }
        state.cache.advance(tokens);
        Ok(())
    }

    /// Attends with the query heads whose columns are `columns`, of `out.rows()` tokens from the new token `token` on. The
    /// cache has `first` positions before the new tokens.
    fn attend(
        &self,
        state: &KvState,
        queries: &[f32],
        first: usize,
        token: usize,
        columns: Range<usize>,
        out: MatrixMut<'_>,
    ) -> Result<(), CoreError> {
        let spec = &*self.spec;
        let group = spec.heads / spec.kv_heads;
        let dim = spec.head_dim;
        let tokens = out.rows();
        let queries = queries.get(token * spec.query_columns()..);
        let mut rest = out;
        let mut head = columns.start / dim;
        let end = columns.end / dim;
        while head < end {
            // The query heads up to the next key head's.
            let kv_head = head / group;
            let next = end.min((kv_head + 1) * group);
            let (own, after) = rest.split_at_column((next - head) * dim);
            rest = after;
            let shape = AttentionShape {
                tokens,
                group: next - head,
                head_dim: dim,
                value_dim: dim,
                query_stride: spec.query_columns(),
                scale: spec.scale,
                softcap: spec.softcap,
                visible: Visible::Causal {
                    first: first + token,
                    window: spec.window,
                },
            };
            let queries = queries
                .and_then(|q| q.get(head * dim..))
                .unwrap_or_default();
            let isa = self.machine.isa;
            let positions = first + token + tokens;
            match state.cache.head(kv_head, positions) {
                (Cached::Floats(keys), Cached::Floats(values)) => {
                    attend(isa, &shape, queries, keys, values, own)?;
                }
                (Cached::Q8(keys), Cached::Q8(values)) => {
                    attend_q8(isa, &shape, queries, keys, values, positions, own)?;
                }
                _ => return Err(CoreError::Format),
            }
            head = next;
        }
        Ok(())
    }

    /// Attends with all heads of all new tokens, on all threads where it is worth it.
    fn attend_all(
        &self,
        state: &KvState,
        queries: &[f32],
        first: usize,
        tokens: usize,
        out: &mut [f32],
    ) -> Result<(), CoreError> {
        let (spec, pool) = (&*self.spec, &self.machine.pool);
        let columns = spec.query_columns();
        let products = tokens
            .saturating_mul(columns)
            .saturating_mul(2 * first + tokens);
        // Heads that share keys stay together, so that keys are read once, unless there are too few for all threads.
        let group = spec.heads / spec.kv_heads;
        let heads_at_once = group.div_ceil(pool.threads().div_ceil(spec.kv_heads));
        let width = heads_at_once * spec.head_dim;
        if products < WORTH_SHARING || pool.threads() == 1 {
            return self.attend(
                state,
                queries,
                first,
                0,
                0..columns,
                MatrixMut::new(out, tokens, columns)?,
            );
        }
        if tokens == 1 {
            let out = MatrixMut::new(out, tokens, columns)?;
            return pool.for_columns(out, width, &|columns, part| {
                self.attend(state, queries, first, 0, columns, part)
            });
        }
        // The last tokens see the most: they come first, so that all threads end together.
        let mut jobs = Vec::new();
        let rows = out.chunks_mut(TOKENS_AT_ONCE * columns).enumerate().rev();
        for (index, rows) in rows {
            let count = rows.len() / columns;
            let mut rest = MatrixMut::new(rows, count, columns)?;
            for start in (0..columns).step_by(width) {
                let (own, after) = rest.split_at_column(width);
                rest = after;
                let end = start + own.columns();
                jobs.push((index * TOKENS_AT_ONCE, start..end, own));
            }
        }
        pool.for_each(jobs, |(token, columns, part)| {
            self.attend(state, queries, first, token, columns, part)
        })
    }

    fn run(
        &self,
        state: &mut KvState,
        scratch: &mut Scratch,
        inputs: &[TValue],
    ) -> TractResult<TValue> {
        let (operands, tokens) = self.operands(inputs)?;
        let first = state.cache.len();
        let fits = state.cache.reserve(tokens);
        ensure!(
            fits.context("making room for keys and values")?,
            "the cache is full: {first} tokens are in, {tokens} more don't fit"
        );
        let columns = self.spec.query_columns();
        // SAFETY: plain numbers, and `attend` writes all of them or fails.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&[1, tokens, columns])? };
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        self.append(state, scratch, &operands, tokens)
            .map_err(core_error)?;
        self.attend_all(state, &scratch.queries, first, tokens, out)
            .map_err(core_error)?;
        Ok(output.into_tvalue())
    }
}

/// Normalises one head in place. Apart from its caller, whose stack stays small in models without such norms.
#[inline(never)]
fn normalise_head(
    isa: Isa,
    HeadNorm { gain, epsilon }: &HeadNorm,
    head: &mut [f32],
) -> Result<(), CoreError> {
    let mut small = [0.0; SMALL_HEAD];
    let large;
    let whole: &[f32] = match small.get_mut(..head.len()) {
        Some(small) => {
            small.copy_from_slice(head);
            small
        }
        None => {
            large = head.to_vec();
            &large
        }
    };
    norm::rms_norm(isa, whole, gain, *epsilon, head)
}

impl RopeTable {
    /// The cosines and sines of a position.
    fn at(&self, position: usize) -> Option<(&[f32], &[f32])> {
        let half = self.rotary_dim / 2;
        let range = position.checked_mul(half)?..position.checked_add(1)?.checked_mul(half)?;
        Some((self.cos.get(range.clone())?, self.sin.get(range)?))
    }
}

impl KvState {
    /// The cache.
    pub(crate) fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }
}

impl Op for KvAttention {
    fn name(&self) -> StaticName {
        "KvAttention".into()
    }

    op_as_typed_op!();
}

impl EvalOp for KvAttention {
    not_out_of_plan!();

    fn state(&self, _ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        let AttentionSpec {
            kv_heads, head_dim, ..
        } = *self.spec;
        let cache = KvCache::new(self.machine.kv, kv_heads, head_dim, self.machine.context);
        Ok(Some(Box::new(KvState { cache })))
    }
}

impl OpState for KvState {
    fn eval(
        &mut self,
        ctx: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let op = op
            .downcast_ref::<KvAttention>()
            .context("a cache belongs to an attention op")?;
        let output = SessionScratch::with(ctx, |scratch| op.run(self, scratch, &inputs))?;
        Ok(tvec!(output))
    }

    fn reset_lanes(&mut self, _lanes: &[LaneId]) -> TractResult<()> {
        self.truncate(0);
        Ok(())
    }
}

impl TypedOp for KvAttention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let spec = &*self.spec;
        let [queries, others @ ..] = inputs else {
            bail!("attention has inputs")
        };
        let [batch, tokens, columns] = &*queries.shape else {
            bail!("attention wants three axes")
        };
        ensure!(batch.is_one(), "a session runs one sequence, not {batch}");
        let (query, kv) = (spec.query_columns().to_dim(), spec.kv_columns().to_dim());
        let fits = match spec.inputs {
            AttentionInputs::Packed => *columns == query.clone() + kv.clone() + kv,
            AttentionInputs::Separate => {
                *columns == query && others.iter().all(|other| other.shape.get(2) == Some(&kv))
            }
        };
        ensure!(
            fits,
            "queries, keys and values don't have the columns of their heads"
        );
        Ok(tvec!(f32::fact([1.to_dim(), tokens.clone(), query])))
    }

    as_op!();
}
