//! Counting n-grams of words or characters.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each n-gram of one order occurs.
pub(crate) type Counts<'a, T> = HashMap<&'a [T], u32>;

/// The n-grams of order `n` in `items`, with their counts.
pub(crate) fn count<T: Eq + Hash>(items: &[T], n: usize) -> Counts<'_, T> {
    let mut counts = HashMap::new();
    for ngram in items.windows(n.max(1)) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// How many n-grams two texts share, each as often as it occurs in both.
pub(crate) fn matches<T: Eq + Hash>(one: &Counts<'_, T>, other: &Counts<'_, T>) -> u64 {
    one.iter()
        .filter_map(|(ngram, &count)| Some(u64::from(count.min(*other.get(ngram)?))))
        .sum()
}

/// How many n-grams a text has.
pub(crate) fn total<T>(counts: &Counts<'_, T>) -> u64 {
    counts.values().map(|&count| u64::from(count)).sum()
}

/// White space as Python's `str.split` sees it, which sacreBLEU cuts words with: Unicode's, and four control characters.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The words between white space.
pub(crate) fn words(text: &str) -> Vec<&str> {
    text.split(is_space)
        .filter(|word| !word.is_empty())
        .collect()
}
