//! An adapter's factors by themselves, for those who keep it beside the base instead of merging it.

use super::{Adapter, stored};
use crate::architecture::Architecture;
use crate::checkpoint::{Tensor, names};
use crate::error::{Error, Result};

/// What an adapter adds to one module: `x · a · b`.
#[derive(Debug)]
pub struct Factors {
    /// The module, as Hugging Face calls it.
    pub module: String,
    /// `[in, rank]`.
    pub a: Tensor,
    /// `[rank, out]`, with the adapter's scale in it.
    pub b: Tensor,
}

impl Adapter {
    /// The factors of all modules, in the order of their names.
    ///
    /// # Errors
    /// When the adapter does more than such a sum can: DoRA, or a change of the embedding.
    pub fn factors(&self, architecture: &Architecture) -> Result<Vec<Factors>> {
        let path = self.file.path();
        let factors = self.deltas.iter().map(|(name, delta)| {
            let refuse = |reason| Err(Error::adapter(path, format!("weight {name}"), reason));
            if delta.magnitude.is_some() {
                return refuse(
                    "DoRA rescales whole rows, which no sum beside the base can; merge it instead",
                );
            }
            if name == names::embedding(architecture) {
                return refuse(
                    "a change of the embedding can't be kept beside it; merge it instead",
                );
            }
            let read = |entry| stored(entry).read(&self.file, name, &entry.shape);
            let mut b = read(&delta.b)?.transposed();
            b.data.iter_mut().for_each(|value| *value *= delta.scale);
            Ok(Factors {
                module: name.trim_end_matches(".weight").to_owned(),
                a: read(&delta.a)?.transposed(),
                b,
            })
        });
        factors.collect()
    }
}
