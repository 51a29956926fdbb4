//! Keys and values of the tokens so far, of one layer of one session.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use furlong_core::attention::{
    Q8_POSITIONS, Q8Groups, narrow_to_f16, q8_columns, q8_scales, store_key, store_value,
};
use furlong_core::{Floats, Isa, f16};

use super::pages::Pages;
use crate::KvFormat;

type CoreError = furlong_core::Error;

/// Positions that a cache starts with room for.
const FIRST_CAPACITY: usize = 64;

/// Keys and values by head and position: `[kv_heads, capacity, head_dim]` each. In 8 bits, [`Q8_POSITIONS`] positions
/// interleave, so in every format capacities are whole groups of so many, and threads that write share none.
///
/// A clone shares the memory until one of the two is written to.
#[derive(Debug, Clone)]
pub(crate) struct KvCache {
    format: KvFormat,
    kv_heads: usize,
    head_dim: usize,
    /// Positions that are filled.
    len: usize,
    /// Positions there is room for.
    capacity: usize,
    /// Positions there may ever be.
    limit: usize,
    keys: Store,
    values: Store,
}

/// Numbers of any format, shared until written to.
#[derive(Debug, Clone)]
enum Store {
    Q8 {
        codes: Arc<Pages<i8>>,
        scales: Arc<Pages<f32>>,
    },
    F16(Arc<Pages<f16>>),
    F32(Arc<Pages<f32>>),
}

/// One head's keys or values, `[positions, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cached<'a> {
    Floats(Floats<'a>),
    /// Of whole groups of positions.
    Q8(Q8Groups<'a>),
}

/// Where one head's keys and values of some new tokens go.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    /// The head.
    pub head: usize,
    /// The tokens, counted from the first new one.
    pub tokens: Range<usize>,
    /// The place of the first of them in the rows below, which are whole groups of positions.
    first: usize,
    head_dim: usize,
    keys: Place<'a>,
    values: Place<'a>,
}

/// Room for rows in one of the stores.
#[derive(Debug)]
enum Place<'a> {
    Q8(&'a mut [i8], &'a mut [f32]),
    F16(&'a mut [f16]),
    F32(&'a mut [f32]),
}

impl KvCache {
    /// An empty cache that takes no memory yet.
    pub(crate) fn new(format: KvFormat, kv_heads: usize, head_dim: usize, limit: usize) -> KvCache {
        let store = || match format {
            KvFormat::Q8 => Store::Q8 {
                codes: Arc::default(),
                scales: Arc::default(),
            },
            KvFormat::F16 => Store::F16(Arc::default()),
            KvFormat::F32 => Store::F32(Arc::default()),
        };
        let (keys, values) = (store(), store());
        KvCache {
            format,
            kv_heads,
            head_dim,
            len: 0,
            capacity: 0,
            limit,
            keys,
            values,
        }
    }

    /// Positions that are filled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that the cache takes.
    pub(crate) fn bytes(&self) -> usize {
        2 * self.kv_heads * self.capacity * self.format.row_bytes(self.head_dim)
    }

    /// Forgets all positions from `len` on. The memory is kept.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `tokens` more positions, in memory that is this cache's alone; `false` when there may not be so many.
    ///
    /// # Errors
    /// When the system has no more memory.
    pub(crate) fn reserve(&mut self, tokens: usize) -> io::Result<bool> {
        let Some(needed) = self
            .len
            .checked_add(tokens)
            .filter(|&needed| needed <= self.limit)
        else {
            return Ok(false);
        };
        let mut capacity = self.capacity;
        if needed > capacity {
            let doubled = capacity.saturating_mul(2).max(FIRST_CAPACITY);
            capacity = needed.max(doubled.min(self.limit));
            capacity = capacity.next_multiple_of(Q8_POSITIONS);
        }
        for store in [&mut self.keys, &mut self.values] {
            if capacity > self.capacity || store.is_shared() {
                let rows = Rows {
                    heads: self.kv_heads,
                    dim: self.head_dim,
                    len: self.len.next_multiple_of(Q8_POSITIONS),
                    capacity: self.capacity,
                };
                *store = store.moved(rows, capacity)?;
            }
        }
        self.capacity = capacity;
        Ok(true)
    }

    /// The places of `tokens` new tokens, at least `at_once` of one head each (the first and the last may have fewer). There
    /// must be room for them; they count only once [`KvCache::advance`] is called.
    pub(crate) fn slots(
        &mut self,
        tokens: usize,
        at_once: usize,
    ) -> impl Iterator<Item = Slot<'_>> {
        let (head_dim, capacity, len) = (self.head_dim, self.capacity, self.len);
        let at_once = at_once.max(1).next_multiple_of(Q8_POSITIONS);
        let start = len / Q8_POSITIONS * Q8_POSITIONS;
        let end = (len + tokens).next_multiple_of(Q8_POSITIONS);
        let places = [self.keys.place(), self.values.place()];
        let heads = (0..self.kv_heads).scan(places, move |rest, head| {
            let new = rest.each_mut().map(|rest| {
                let mut whole = rest.take_rows(capacity, head_dim);
                whole.take_rows(start, head_dim);
                whole.take_rows(end - start, head_dim)
            });
            Some((head, new))
        });
        heads.flat_map(move |(head, mut new)| {
            (start..end).step_by(at_once).map(move |from| {
                let to = end.min(from + at_once);
                let [keys, values] = new
                    .each_mut()
                    .map(|rows| rows.take_rows(to - from, head_dim));
                let first = from.max(len);
                Slot {
                    head,
                    tokens: first - len..to.min(len + tokens) - len,
                    first: first - from,
                    head_dim,
                    keys,
                    values,
                }
            })
        })
    }

    /// Counts `tokens` positions that were written.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len = (self.len + tokens).min(self.capacity);
    }

    /// The keys and values of one head for the first `positions` positions; in 8 bits, for the others of a group, too.
    pub(crate) fn head(&self, head: usize, positions: usize) -> (Cached<'_>, Cached<'_>) {
        let range = |positions: usize, width: usize| {
            let start = head * self.capacity * width;
            start..start + positions * width
        };
        let (codes, scales) = (q8_columns(self.head_dim), q8_scales(self.head_dim));
        let groups = positions.next_multiple_of(Q8_POSITIONS);
        let (numbers, scales) = match self.format {
            KvFormat::Q8 => (range(groups, codes), range(groups, scales)),
            KvFormat::F16 | KvFormat::F32 => (range(positions, self.head_dim), 0..0),
        };
        (
            self.keys.rows(numbers.clone(), scales.clone()),
            self.values.rows(numbers, scales),
        )
    }
}

impl Slot<'_> {
    /// Writes the key and the value, `[head_dim]` each, of the slot's token `index`.
    pub(crate) fn write(
        &mut self,
        isa: Isa,
        index: usize,
        key: &[f32],
        value: &[f32],
    ) -> Result<(), CoreError> {
        let row = self.first + index;
        self.keys.write(isa, row, self.head_dim, key, store_key)?;
        self.values
            .write(isa, row, self.head_dim, value, store_value)
    }
}

impl<'a> Place<'a> {
    /// Cuts the first `count` rows off.
    fn take_rows(&mut self, count: usize, dim: usize) -> Place<'a> {
        match self {
            Place::Q8(codes, scales) => {
                let codes = cut(codes, count * q8_columns(dim));
                Place::Q8(codes, cut(scales, count * q8_scales(dim)))
            }
            Place::F16(values) => Place::F16(cut(values, count * dim)),
            Place::F32(values) => Place::F32(cut(values, count * dim)),
        }
    }

    /// Writes a row; `store` writes it into a group of positions in 8 bits.
    fn write(
        &mut self,
        isa: Isa,
        row: usize,
        dim: usize,
        x: &[f32],
        store: StoreQ8,
    ) -> Result<(), CoreError> {
        let range = |row: usize, width: usize| row * width..(row + 1) * width;
        match self {
            Place::Q8(codes, scales) => {
                let (group, place) = (row / Q8_POSITIONS, row % Q8_POSITIONS);
                let codes = codes.get_mut(range(group, Q8_POSITIONS * q8_columns(dim)));
                let scales = scales.get_mut(range(group, Q8_POSITIONS * q8_scales(dim)));
                let (codes, scales) = codes.zip(scales).ok_or(CoreError::Shape)?;
                store(isa, x, place, codes, scales)
            }
            Place::F16(values) => narrow_to_f16(
                isa,
                x,
                values.get_mut(range(row, dim)).ok_or(CoreError::Shape)?,
            ),
            Place::F32(values) => {
                let place = values.get_mut(range(row, dim));
                let place = place.filter(|place| place.len() == x.len());
                place.ok_or(CoreError::Shape)?.copy_from_slice(x);
                Ok(())
            }
        }
    }
}

/// Writes a row of numbers into one position of a group's codes and scales.
type StoreQ8 = fn(Isa, &[f32], usize, &mut [i8], &mut [f32]) -> Result<(), CoreError>;

/// The first `len` items of `rest`, or all; `rest` keeps the others.
fn cut<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let all = std::mem::take(rest);
    let (first, others) = all.split_at_mut(len.min(all.len()));
    *rest = others;
    first
}

/// What of a store is filled, and how.
#[derive(Clone, Copy)]
struct Rows {
    heads: usize,
    dim: usize,
    /// Positions that are filled, in whole groups.
    len: usize,
    /// Positions there is room for.
    capacity: usize,
}

impl Store {
    fn is_shared(&mut self) -> bool {
        match self {
            Store::Q8 { codes, scales } => {
                Arc::get_mut(codes).is_none() || Arc::get_mut(scales).is_none()
            }
            Store::F16(values) => Arc::get_mut(values).is_none(),
            Store::F32(values) => Arc::get_mut(values).is_none(),
        }
    }

    /// The filled positions in other memory, with room for `capacity`.
    fn moved(&self, rows: Rows, capacity: usize) -> io::Result<Store> {
        Ok(match self {
            Store::Q8 { codes, scales } => Store::Q8 {
                codes: moved(codes, q8_columns(rows.dim), rows, capacity)?,
                scales: moved(scales, q8_scales(rows.dim), rows, capacity)?,
            },
            Store::F16(values) => Store::F16(moved(values, rows.dim, rows, capacity)?),
            Store::F32(values) => Store::F32(moved(values, rows.dim, rows, capacity)?),
        })
    }

    /// All of it, to be written to; nothing of what is shared, which [`KvCache::reserve`] leaves none of.
    fn place(&mut self) -> Place<'_> {
        match self {
            Store::Q8 { codes, scales } => Place::Q8(whole(codes), whole(scales)),
            Store::F16(values) => Place::F16(whole(values)),
            Store::F32(values) => Place::F32(whole(values)),
        }
    }

    /// The numbers of a range, and their scales where they have some.
    fn rows(&self, range: Range<usize>, scale_range: Range<usize>) -> Cached<'_> {
        match self {
            Store::Q8 { codes, scales } => Cached::Q8(Q8Groups {
                codes: part(codes, range),
                scales: part(scales, scale_range),
            }),
            Store::F16(values) => Cached::Floats(Floats::F16(part(values, range))),
            Store::F32(values) => Cached::Floats(Floats::F32(part(values, range))),
        }
    }
}

fn part<T>(values: &[T], range: Range<usize>) -> &[T] {
    values.get(range).unwrap_or_default()
}

fn whole<T: Pod>(values: &mut Arc<Pages<T>>) -> &mut [T] {
    let values = Arc::get_mut(values);
    values.map(|values| &mut **values).unwrap_or_default()
}

/// Each head's filled positions, `width` numbers each, in memory with room for `capacity`.
fn moved<T: Pod>(
    values: &[T],
    width: usize,
    rows: Rows,
    capacity: usize,
) -> io::Result<Arc<Pages<T>>> {
    let mut larger = Pages::zeroed(rows.heads * capacity * width)?;
    for head in 0..rows.heads {
        let from = head * rows.capacity * width;
        let to = head * capacity * width;
        let old = values.get(from..from + rows.len * width);
        let new = larger.get_mut(to..to + rows.len * width);
        if let (Some(old), Some(new)) = (old, new) {
            new.copy_from_slice(old);
        }
    }
    Ok(Arc::new(larger))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &mut KvCache, tokens: usize, base: f32) {
        assert!(cache.reserve(tokens).unwrap());
        for mut slot in cache.slots(tokens, 7) {
            for (index, token) in slot.tokens.clone().enumerate() {
                let number = base + token as f32 + slot.head as f32 * 0.5;
                let key = [number, 0.0];
                slot.write(Isa::SCALAR, index, &key, &key.map(|key| -key))
                    .unwrap();
            }
        }
        cache.advance(tokens);
    }

    /// What a head holds, of all formats as bits.
    fn contents(cache: &KvCache, head: usize) -> Vec<u64> {
        let (keys, values) = cache.head(head, cache.len());
        let all = [keys, values].into_iter().flat_map(|cached| match cached {
            Cached::Floats(floats) => {
                let numbers = (0..floats.len()).filter_map(|i| floats.get(i));
                numbers
                    .map(|number| u64::from(number.to_bits()))
                    .collect::<Vec<_>>()
            }
            // Of a group, only what was written.
            Cached::Q8(Q8Groups { codes, scales }) => {
                let blocks = cache.len().div_ceil(Q8_POSITIONS) * q8_scales(cache.head_dim);
                assert_eq!(scales.len(), blocks * Q8_POSITIONS);
                let codes = codes.iter().map(|&code| code as u64);
                codes
                    .chain(scales.iter().map(|scale| u64::from(scale.to_bits())))
                    .collect()
            }
        });
        all.collect()
    }

    /// A cache that got everything at once.
    fn filled(format: KvFormat, parts: &[(usize, f32)]) -> KvCache {
        let mut cache = KvCache::new(format, 2, 2, 200);
        assert!(
            cache
                .reserve(parts.iter().map(|part| part.0).sum())
                .unwrap()
        );
        parts
            .iter()
            .for_each(|&(tokens, base)| fill(&mut cache, tokens, base));
        cache
    }

    #[test]
    fn growing_truncating_and_cloning_keep_what_was_written() {
        for format in [KvFormat::Q8, KvFormat::F16, KvFormat::F32] {
            let mut cache = KvCache::new(format, 2, 2, 200);
            assert_eq!(cache.bytes(), 0);
            fill(&mut cache, 60, 0.0);
            fill(&mut cache, 60, 60.0);
            let expected = filled(format, &[(120, 0.0)]);
            let same = |a: &KvCache, b: &KvCache| {
                (0..2).all(|head| contents(a, head) == contents(b, head))
            };
            assert!(same(&cache, &expected));

            let fork = cache.clone();
            cache.truncate(96);
            fill(&mut cache, 11, 1000.0);
            cache.truncate(100);
            fill(&mut cache, 12, 2000.0);
            let other = filled(format, &[(96, 0.0), (4, 1000.0), (12, 2000.0)]);
            assert!(same(&cache, &other) && !same(&cache, &expected));
            assert!(same(&fork, &expected));
            assert!(!cache.reserve(89).unwrap());
            assert!(cache.reserve(88).unwrap());
        }
    }
}
