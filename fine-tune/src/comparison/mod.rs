//! Two models on the same test set: which is better, by how much, and whether chance explains it.

mod binomial;
pub mod bootstrap;
mod pairs;
pub mod preferences;
mod random;
pub mod sample_size;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use pairs::{Count, Difference, Pairs, Verdict};
pub(crate) use random::Random;

/// Where a figure lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}
