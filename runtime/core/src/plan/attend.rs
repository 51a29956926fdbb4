//! The ops of attention: writing keys and values into the cache, and attending over it.

use super::execute::{Execution, MISFIT, Progress, first_rows, own_columns, split};
use super::op::{Columns, Heads, Kept, Op};
use super::{Buffer, BufferId, CacheFormat, PlanError, cast};
use crate::attention::{
    AttentionShape, Mask, Q8_POSITIONS, Q8Groups, TiledShape, Visible, attend, attend_q8,
    attend_tiled, narrow_to_f16, q8_columns, q8_scales, store_key, store_value,
};
use crate::{Feature, Floats, MatrixMut};
use core::ops::Range;

impl Execution<'_, '_> {
    /// Writes the tile's keys or values, `heads` of them a token, into the cache.
    pub(super) fn append(
        &mut self,
        from: Columns,
        heads: Heads,
        cache: BufferId,
        kept: Kept,
    ) -> Progress {
        let (isa, format) = (self.isa, self.plan.header.cache);
        let context = self.plan.header.context;
        let context = format.positions(context).ok_or(MISFIT)? as usize;
        let dim = usize::from(heads.dim);
        let stride = self.plan.buffer(from.buffer)?.columns as usize;
        let store = self.plan.buffer(cache)?;
        let [values, bytes] = split(self.plan, self.arena, [from.buffer, cache])?;
        let values: &[f32] = first_rows(values, self.tokens, stride)?;
        let store_q8 = match kept {
            Kept::Keys => store_key,
            Kept::Values => store_value,
        };
        let columns = own_columns(from, heads.columns());
        let (numbers, scales) = bytes
            .split_at_mut_checked(numbers_end(&store, format))
            .ok_or(MISFIT)?;
        for (row, position) in values.chunks_exact(stride.max(1)).zip(self.first..) {
            let row = row.get(columns.clone()).ok_or(MISFIT)?;
            for (head, x) in row.chunks_exact(dim.max(1)).enumerate() {
                let place = head.saturating_mul(context).saturating_add(position);
                match format {
                    CacheFormat::F16 if Feature::KvF16.is_built() => {
                        let to = cast::halves_mut(numbers)?.get_mut(rows(place, 1, dim));
                        narrow_to_f16(isa, x, to.ok_or(MISFIT)?)?;
                    }
                    CacheFormat::F32 if Feature::KvF32.is_built() => {
                        let to = cast::floats_mut(numbers)?.get_mut(rows(place, 1, dim));
                        let to = to.ok_or(MISFIT)?;
                        to.iter_mut().zip(x).for_each(|(to, x)| *to = *x);
                    }
                    CacheFormat::Q8 if Feature::KvQ8.is_built() => {
                        let group = place / Q8_POSITIONS * Q8_POSITIONS;
                        let codes = rows(group, Q8_POSITIONS, q8_columns(dim));
                        let codes = cast::signed_mut(numbers)?.get_mut(codes).ok_or(MISFIT)?;
                        let shared = rows(group, Q8_POSITIONS, q8_scales(dim));
                        let scales = cast::floats_mut(scales)?.get_mut(shared).ok_or(MISFIT)?;
                        store_q8(isa, x, place % Q8_POSITIONS, codes, scales)?;
                    }
                    // Refused by the check.
                    _ => return Err(MISFIT),
                }
            }
        }
        Ok(None)
    }

    /// Attends with the query heads of one key head; `part` says of which.
    pub(super) fn attend(&mut self, op: &Op, part: usize) -> Progress {
        let Op::Attend {
            queries,
            heads,
            kv_heads,
            keys,
            values,
            out,
            scale,
            softcap,
            window,
        } = *op
        else {
            return Err(MISFIT);
        };
        let (isa, format) = (self.isa, self.plan.header.cache);
        let context = self.plan.header.context;
        let context = format.positions(context).ok_or(MISFIT)? as usize;
        let dim = usize::from(heads.dim);
        let group = usize::from(heads.count)
            .checked_div(usize::from(kv_heads))
            .ok_or(MISFIT)?;
        let stride = self.plan.buffer(queries.buffer)?.columns as usize;
        let width = self.plan.buffer(out)?.columns as usize;
        let stores = [self.plan.buffer(keys)?, self.plan.buffer(values)?];
        let ids = [queries.buffer, keys, values, out];
        let [query_bytes, keys, values, out] = split(self.plan, self.arena, ids)?;
        let query_rows: &[f32] = first_rows(query_bytes, self.tokens, stride)?;
        let column = part.saturating_mul(group).saturating_mul(dim);
        let start = usize::from(queries.column).saturating_add(column);
        let query_rows = query_rows.get(start..).ok_or(MISFIT)?;
        let out = first_rows(out, self.tokens, width)?
            .get_mut(column..)
            .ok_or(MISFIT)?;
        let view = MatrixMut::with_stride(out, self.tokens, group.saturating_mul(dim), width)?;
        let shape = AttentionShape {
            tokens: self.tokens,
            group,
            head_dim: dim,
            value_dim: dim,
            query_stride: stride,
            scale,
            softcap: (softcap != 0.0).then_some(softcap),
            visible: Visible::Causal {
                first: self.first,
                window: (window != 0).then_some(window as usize),
            },
        };
        let positions = self.first.saturating_add(self.tokens);
        let place = part.saturating_mul(context);
        let own = rows(place, positions, dim);
        let [key_store, value_store] = stores;
        let (keys, key_scales) = cached(keys, &key_store, format)?;
        let (values, value_scales) = cached(values, &value_store, format)?;
        match format {
            CacheFormat::F16 if Feature::KvF16.is_built() => {
                let keys = cast::halves(keys)?.get(own.clone()).ok_or(MISFIT)?;
                let values = cast::halves(values)?.get(own).ok_or(MISFIT)?;
                let (keys, values) = (Floats::F16(keys), Floats::F16(values));
                attend(isa, &shape, query_rows, keys, values, view)?;
            }
            CacheFormat::F32 if Feature::KvF32.is_built() => {
                let keys = cast::floats(keys)?.get(own.clone()).ok_or(MISFIT)?;
                let values = cast::floats(values)?.get(own).ok_or(MISFIT)?;
                let (keys, values) = (Floats::F32(keys), Floats::F32(values));
                attend(isa, &shape, query_rows, keys, values, view)?;
            }
            CacheFormat::Q8 if Feature::KvQ8.is_built() => {
                let groups = positions.next_multiple_of(Q8_POSITIONS);
                let q8 = |codes, scales| {
                    let own = rows(place, groups, q8_columns(dim));
                    let shared = rows(place, groups, q8_scales(dim));
                    Ok::<_, PlanError>(Q8Groups {
                        codes: cast::signed(codes)?.get(own).ok_or(MISFIT)?,
                        scales: cast::floats(scales)?.get(shared).ok_or(MISFIT)?,
                    })
                };
                let (keys, values) = (q8(keys, key_scales)?, q8(values, value_scales)?);
                attend_q8(isa, &shape, query_rows, keys, values, positions, view)?;
            }
            _ => return Err(MISFIT),
        }
        let next = part.saturating_add(1);
        Ok((next < usize::from(kv_heads)).then_some(next))
    }

    /// Attends with one query head of an encoder; `part` says with which.
    pub(super) fn self_attend(&mut self, op: &Op, part: usize) -> Progress {
        let Op::SelfAttend {
            queries,
            keys,
            values,
            heads,
            kv_heads,
            value_dim,
            scale,
            scratch,
            out,
        } = *op
        else {
            return Err(MISFIT);
        };
        let (tokens, width) = self.shape(out)?;
        let value_dim = usize::from(value_dim);
        let (count, dim) = (usize::from(heads.count), usize::from(heads.dim));
        let group = count.checked_div(usize::from(kv_heads)).ok_or(MISFIT)?;
        let kv_head = part.checked_div(group).ok_or(MISFIT)?;
        let stride = |id: BufferId| Ok::<_, PlanError>(self.plan.buffer(id)?.columns as usize);
        let strides = [
            stride(queries.buffer)?,
            stride(keys.buffer)?,
            stride(values.buffer)?,
        ];
        let [query_stride, key_stride, value_stride] = strides;
        let shape = TiledShape {
            tokens,
            positions: tokens,
            head_dim: dim,
            value_dim,
            query_stride,
            key_stride,
            value_stride,
            scale,
        };
        // Queries, keys and values may share a buffer, so they are read out of what lies around the other two.
        let [out_range, scratch_range] = [
            self.plan.buffer(out)?.range(),
            self.plan.buffer(scratch)?.range(),
        ];
        let (inputs, [out, scratch]) = around(self.arena, [out_range, scratch_range])?;
        let operand = |of: Columns, head: usize, dim: usize| {
            let bytes = inputs.get(self.plan.buffer(of.buffer)?.range())?;
            let column = head
                .saturating_mul(dim)
                .saturating_add(usize::from(of.column));
            cast::floats(bytes)?.get(column..).ok_or(MISFIT)
        };
        let column = part.saturating_mul(value_dim);
        let out = first_rows(out, tokens, width)?
            .get_mut(column..)
            .ok_or(MISFIT)?;
        attend_tiled(
            self.isa,
            &shape,
            operand(queries, part, dim)?,
            operand(keys, kv_head, dim)?,
            operand(values, kv_head, value_dim)?,
            Mask::None,
            cast::floats_mut(scratch)?,
            MatrixMut::with_stride(out, tokens, value_dim, width)?,
        )?;
        let next = part.saturating_add(1);
        Ok((next < count).then_some(next))
    }
}

/// What of an arena is left when two ranges are taken out of it.
struct Around<'e> {
    /// Where each piece starts, and the piece.
    pieces: [(usize, &'e [u8]); 3],
}

impl<'e> Around<'e> {
    /// A range of the arena that lies in one piece.
    fn get(&self, range: Range<usize>) -> Result<&'e [u8], PlanError> {
        let found = self.pieces.iter().find_map(|(start, piece)| {
            let from = range.start.checked_sub(*start)?;
            piece.get(from..range.end.checked_sub(*start)?)
        });
        found.ok_or(MISFIT)
    }
}

/// Two ranges of the arena to write to, and the rest of it to read from.
fn around(
    arena: &mut [u8],
    ranges: [Range<usize>; 2],
) -> Result<(Around<'_>, [&mut [u8]; 2]), PlanError> {
    let [a, b] = ranges;
    let swapped = b.start < a.start;
    let (low, high) = if swapped { (b, a) } else { (a, b) };
    let len = arena.len();
    let pieces = [
        0..low.start,
        low.clone(),
        low.end..high.start,
        high.clone(),
        high.end..len,
    ];
    let [before, first, between, second, after] =
        arena.get_disjoint_mut(pieces).map_err(|_| MISFIT)?;
    let pieces: [(usize, &[u8]); 3] = [(0, before), (low.end, between), (high.end, after)];
    let taken = if swapped {
        [second, first]
    } else {
        [first, second]
    };
    Ok((Around { pieces }, taken))
}

/// Where the numbers of a cache end and its scales begin, if it has some.
fn numbers_end(store: &Buffer, format: CacheFormat) -> usize {
    match format {
        CacheFormat::Q8 => (store.rows as usize).saturating_mul(q8_columns(store.columns as usize)),
        _ => store.bytes as usize,
    }
}

/// The numbers of a cache, and its scales.
fn cached<'c>(
    bytes: &'c [u8],
    store: &Buffer,
    format: CacheFormat,
) -> Result<(&'c [u8], &'c [u8]), PlanError> {
    let end = numbers_end(store, format);
    bytes.split_at_checked(end).ok_or(MISFIT)
}

/// The numbers of `count` rows from row `first` on.
fn rows(first: usize, count: usize, columns: usize) -> Range<usize> {
    let start = first.saturating_mul(columns);
    start..start.saturating_add(count.saturating_mul(columns))
}
