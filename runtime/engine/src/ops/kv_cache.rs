//! Keys and values of the tokens so far, of one layer of one session.

use std::ops::Range;
use std::sync::Arc;

use furlong_core::attention::narrow_to_f16;
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

/// Numbers of either width, shared until written to.
#[derive(Debug, Clone)]
enum Store {
    F16(Arc<Vec<f16>>),
    F32(Arc<Vec<f32>>),
}

impl KvCache {
    /// An empty cache that takes no memory yet.
    pub(crate) fn new(format: KvFormat, kv_heads: usize, head_dim: usize, limit: usize) -> KvCache {
        let store = || match format {
            KvFormat::F16 => Store::F16(Arc::default()),
            KvFormat::F32 => Store::F32(Arc::default()),
        };
        let (keys, values) = (store(), store());
        KvCache {
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
        let numbers = 2 * self.kv_heads * self.capacity * self.head_dim;
        match self.keys {
            Store::F16(_) => numbers * KvFormat::F16.bytes(),
            Store::F32(_) => numbers * KvFormat::F32.bytes(),
        }
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
            let (heads, row, len, old) = (self.kv_heads, self.head_dim, self.len, self.capacity);
            for store in [&mut self.keys, &mut self.values] {
                match store {
                    Store::F16(values) => {
                        *values = grown(values, row, len, old, capacity, heads, f16::ZERO);
                    }
                    Store::F32(values) => {
                        *values = grown(values, row, len, old, capacity, heads, 0.0);
                    }
                }
            }
            self.capacity = capacity;
        }
        true
    }

    /// Writes one token's keys and values, `[kv_heads, head_dim]` each, at position `len() + token`. There must be
    /// room for it; it counts only once [`KvCache::advance`] is called.
    pub(crate) fn write(
        &mut self,
        isa: Isa,
        token: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), CoreError> {
        let position = self.len + token;
        let (dim, capacity) = (self.head_dim, self.capacity);
        for (store, numbers) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for (head, numbers) in numbers.chunks_exact(dim).enumerate() {
                let start = (head * capacity + position) * dim;
                let place = start..start + dim;
                match store {
                    Store::F16(store) => {
                        let place = Arc::make_mut(store).get_mut(place).unwrap_or_default();
                        narrow_to_f16(isa, numbers, place)?;
                    }
                    Store::F32(store) => {
                        let place = Arc::make_mut(store)
                            .get_mut(place)
                            .ok_or(CoreError::Shape)?;
                        place.copy_from_slice(numbers);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts `tokens` positions that were written.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len = (self.len + tokens).min(self.capacity);
    }

    /// The keys and values of one head, `[positions, head_dim]` each, for the first `positions` positions.
    pub(crate) fn head(&self, head: usize, positions: usize) -> (Floats<'_>, Floats<'_>) {
        let start = head * self.capacity * self.head_dim;
        let range = start..start + positions * self.head_dim;
        (self.keys.part(range.clone()), self.values.part(range))
    }
}

impl Store {
    fn part(&self, range: Range<usize>) -> Floats<'_> {
        match self {
            Store::F16(values) => Floats::F16(values.get(range).unwrap_or_default()),
            Store::F32(values) => Floats::F32(values.get(range).unwrap_or_default()),
        }
    }
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
        for token in 0..tokens {
            let number = base + token as f32;
            let keys = [number, number + 0.25, number + 0.5, number + 0.75];
            let values = keys.map(|key| -key);
            cache.write(Isa::SCALAR, token, &keys, &values).unwrap();
        }
        cache.advance(tokens);
    }

    fn first_numbers(cache: &KvCache, head: usize) -> Vec<f32> {
        let (keys, values) = cache.head(head, cache.len());
        assert_eq!(keys.len(), values.len());
        (0..cache.len())
            .filter_map(|position| keys.get(position * 2))
            .collect()
    }

    #[test]
    fn growing_truncating_and_cloning_keep_what_was_written() {
        for format in [KvFormat::F16, KvFormat::F32] {
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
