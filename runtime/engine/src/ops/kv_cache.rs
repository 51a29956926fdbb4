//! Keys and values of the tokens so far, of one layer of one session.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::attention::{Q8Rows, narrow_to_f16, narrow_to_q8, q8_scales};
use furlong_core::{Floats, Isa, f16};

use crate::KvFormat;

type CoreError = furlong_core::Error;

/// Positions that a cache starts with room for.
const FIRST_CAPACITY: usize = 64;

/// Keys and values by head and position: `[kv_heads, capacity, head_dim]` each.
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
        codes: Arc<Vec<i8>>,
        scales: Arc<Vec<f32>>,
    },
    F16(Arc<Vec<f16>>),
    F32(Arc<Vec<f32>>),
}

/// One head's keys or values, `[positions, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cached<'a> {
    Floats(Floats<'a>),
    Q8(Q8Rows<'a>),
}

/// Where one head's keys and values of some new tokens go.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    /// The head.
    pub head: usize,
    /// The tokens, counted from the first new one.
    pub tokens: Range<usize>,
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

    /// Makes room for `tokens` more positions; `false` when there may not be so many.
    pub(crate) fn reserve(&mut self, tokens: usize) -> bool {
        let Some(needed) = self
            .len
            .checked_add(tokens)
            .filter(|&needed| needed <= self.limit)
        else {
            return false;
        };
        if needed > self.capacity {
            let doubled = self.capacity.saturating_mul(2).max(FIRST_CAPACITY);
            let capacity = needed.max(doubled.min(self.limit));
            let (dim, heads) = (self.head_dim, self.kv_heads);
            let (len, old) = (self.len, self.capacity);
            for store in [&mut self.keys, &mut self.values] {
                match store {
                    Store::Q8 { codes, scales } => {
                        *codes = grown(codes, dim, len, old, capacity, heads, 0);
                        *scales = grown(scales, q8_scales(dim), len, old, capacity, heads, 0.0);
                    }
                    Store::F16(values) => {
                        *values = grown(values, dim, len, old, capacity, heads, f16::ZERO);
                    }
                    Store::F32(values) => {
                        *values = grown(values, dim, len, old, capacity, heads, 0.0);
                    }
                }
            }
            self.capacity = capacity;
        }
        true
    }

    /// The places of `tokens` new tokens, `at_once` of one head each (the last may have fewer). There must be
    /// room for them; they count only once [`KvCache::advance`] is called.
    pub(crate) fn slots(
        &mut self,
        tokens: usize,
        at_once: usize,
    ) -> impl Iterator<Item = Slot<'_>> {
        let (head_dim, at_once) = (self.head_dim, at_once.max(1));
        let (capacity, len) = (self.capacity, self.len);
        let places = [self.keys.place(), self.values.place()];
        let heads = (0..self.kv_heads).scan(places, move |rest, head| {
            let new = rest.each_mut().map(|rest| {
                let mut whole = rest.take_rows(capacity, head_dim);
                whole.take_rows(len, head_dim);
                whole.take_rows(tokens, head_dim)
            });
            Some((head, new))
        });
        heads.flat_map(move |(head, mut new)| {
            (0..tokens).step_by(at_once).map(move |first| {
                let end = tokens.min(first + at_once);
                let [keys, values] = new
                    .each_mut()
                    .map(|rows| rows.take_rows(end - first, head_dim));
                Slot {
                    head,
                    tokens: first..end,
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

    /// The keys and values of one head for the first `positions` positions.
    pub(crate) fn head(&self, head: usize, positions: usize) -> (Cached<'_>, Cached<'_>) {
        let dim = self.head_dim;
        let range = |width: usize| {
            let start = head * self.capacity * width;
            start..start + positions * width
        };
        let (numbers, scales) = (range(dim), range(q8_scales(dim)));
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
        self.keys.write(isa, index, self.head_dim, key)?;
        self.values.write(isa, index, self.head_dim, value)
    }
}

impl<'a> Place<'a> {
    /// Cuts the first `count` rows off.
    fn take_rows(&mut self, count: usize, dim: usize) -> Place<'a> {
        match self {
            Place::Q8(codes, scales) => {
                Place::Q8(cut(codes, count * dim), cut(scales, count * q8_scales(dim)))
            }
            Place::F16(values) => Place::F16(cut(values, count * dim)),
            Place::F32(values) => Place::F32(cut(values, count * dim)),
        }
    }

    fn write(&mut self, isa: Isa, row: usize, dim: usize, x: &[f32]) -> Result<(), CoreError> {
        let range = |width: usize| row * width..(row + 1) * width;
        match self {
            Place::Q8(codes, scales) => {
                let codes = codes.get_mut(range(dim)).ok_or(CoreError::Shape)?;
                let scales = scales.get_mut(range(q8_scales(dim)));
                narrow_to_q8(isa, x, codes, scales.ok_or(CoreError::Shape)?)
            }
            Place::F16(values) => {
                narrow_to_f16(isa, x, values.get_mut(range(dim)).ok_or(CoreError::Shape)?)
            }
            Place::F32(values) => {
                let place = values.get_mut(range(dim));
                let place = place.filter(|place| place.len() == x.len());
                place.ok_or(CoreError::Shape)?.copy_from_slice(x);
                Ok(())
            }
        }
    }
}

/// The first `len` items of `rest`, or all; `rest` keeps the others.
fn cut<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let all = std::mem::take(rest);
    let (first, others) = all.split_at_mut(len.min(all.len()));
    *rest = others;
    first
}

impl Store {
    fn place(&mut self) -> Place<'_> {
        match self {
            Store::Q8 { codes, scales } => Place::Q8(
                Arc::make_mut(codes).as_mut_slice(),
                Arc::make_mut(scales).as_mut_slice(),
            ),
            Store::F16(values) => Place::F16(Arc::make_mut(values).as_mut_slice()),
            Store::F32(values) => Place::F32(Arc::make_mut(values).as_mut_slice()),
        }
    }

    /// The numbers of a range, and their scales where they have some.
    fn rows(&self, range: Range<usize>, scale_range: Range<usize>) -> Cached<'_> {
        match self {
            Store::Q8 { codes, scales } => Cached::Q8(Q8Rows {
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

/// Moves each head's filled positions to memory with room for more.
fn grown<T: Copy>(
    values: &[T],
    row: usize,
    len: usize,
    old_capacity: usize,
    capacity: usize,
    heads: usize,
    zero: T,
) -> Arc<Vec<T>> {
    let mut larger = vec![zero; heads * capacity * row];
    for head in 0..heads {
        let from = head * old_capacity * row;
        let to = head * capacity * row;
        let old = values.get(from..from + len * row);
        let new = larger.get_mut(to..to + len * row);
        if let (Some(old), Some(new)) = (old, new) {
            new.copy_from_slice(old);
        }
    }
    Arc::new(larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &mut KvCache, tokens: usize, base: f32) {
        assert!(cache.reserve(tokens));
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

    fn first_numbers(cache: &KvCache, head: usize) -> Vec<f32> {
        let number = |cached: Cached<'_>, position: usize| match cached {
            Cached::Floats(floats) => floats.get(position * 2).unwrap(),
            Cached::Q8(Q8Rows { codes, scales }) => {
                f32::from(codes[position * 2]) * scales[position]
            }
        };
        let (keys, values) = cache.head(head, cache.len());
        let all = (0..cache.len()).map(|position| {
            let key = number(keys, position);
            assert_eq!(number(values, position), -key);
            // A number that is the largest of its block is kept but for the rounding of the scale.
            (key * 2.0).round() / 2.0
        });
        all.collect()
    }

    #[test]
    fn growing_truncating_and_cloning_keep_what_was_written() {
        for format in [KvFormat::Q8, KvFormat::F16, KvFormat::F32] {
            let mut cache = KvCache::new(format, 2, 2, 200);
            assert_eq!(cache.bytes(), 0);
            fill(&mut cache, 60, 0.0);
            fill(&mut cache, 60, 60.0);
            let expected: Vec<f32> = (0..120).map(|number| number as f32).collect();
            assert_eq!(first_numbers(&cache, 0), expected);
            assert_eq!(first_numbers(&cache, 1)[119], 119.5);

            let fork = cache.clone();
            cache.truncate(100);
            fill(&mut cache, 10, 1000.0);
            assert_eq!(first_numbers(&cache, 0)[99..101], [99.0, 1000.0]);
            assert_eq!(first_numbers(&fork, 0), expected);
            assert!(!cache.reserve(91));
            assert!(cache.reserve(90));
        }
    }
}
