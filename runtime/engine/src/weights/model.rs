//! All packed weights of a model: mapped from its cache file, or packed into memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use furlong_core::Isa;

use super::cache::Cache;
use super::contents::{Contents, Matrix};
use super::{PackedLinear, PackedMatrix, RowTable};
use crate::pool::Pool;
use crate::rewrite::{LinearSpec, OpSpec, WeightSource};

/// A layer that can't be packed.
#[derive(Debug)]
pub(crate) struct PackError {
    /// Its node in the model.
    pub node: String,
    /// What the kernels say.
    pub reason: furlong_core::Error,
}

impl PackError {
    pub(crate) fn new(node: &str, reason: furlong_core::Error) -> PackError {
        PackError {
            node: node.to_owned(),
            reason,
        }
    }

    /// As an error about the model file `path`.
    pub(crate) fn of(self, path: &Path) -> crate::Error {
        let place = format!("node {:?}", self.node);
        let reason = format!("{}; export the model again", self.reason);
        crate::Error::invalid(path, place, reason)
    }
}

/// The packed weights of a model that is being built.
#[derive(Debug)]
pub(crate) struct PackedModel {
    /// The matrices of each op, until they are taken.
    layers: Vec<Vec<PackedMatrix>>,
    /// The output layer, and what it was packed from.
    head: Option<(Arc<PackedLinear>, Option<WeightSource>)>,
    /// The cache file that the bytes are in, if they are in one.
    pub file: Option<PathBuf>,
}

impl PackedModel {
    /// Maps the matrices of the ops `specs` and the layer `head` from the cache, which is made if need be, or packs
    /// them into memory.
    ///
    /// # Errors
    /// A layer that no kernel multiplies.
    pub(crate) fn new(
        specs: &[OpSpec],
        head: Option<&LinearSpec>,
        isa: Isa,
        pool: &Pool,
        cache: &Cache<'_>,
    ) -> Result<PackedModel, PackError> {
        let contents = Contents::of(specs, head, isa.kind())?;
        let cached = cache.map_or_make(&contents, isa.kind(), pool)?;
        let (file, mapped) = cached.unzip();
        let pack = |matrix: &Matrix<'_>| {
            match &mapped {
                Some(all) => PackedMatrix::mapped(matrix, isa, all),
                None => PackedMatrix::in_memory(matrix, isa, pool),
            }
            .map_err(|error| PackError::new(&matrix.name(), error))
        };
        let mut layers = contents
            .layers
            .iter()
            .map(|matrices| matrices.iter().map(pack).collect())
            .collect::<Result<Vec<Vec<_>>, _>>()?;
        let last = layers.pop().unwrap_or_default();
        let head = head.map(|head| {
            let source = match head.parts.as_slice() {
                [only] => Some(only.weights.clone()),
                _ => None,
            };
            (Arc::new(PackedLinear::new(last)), source)
        });
        Ok(PackedModel { layers, head, file })
    }

    /// The matrices of the op that `specs[index]` describes. They can be had once.
    pub(crate) fn take(&mut self, index: usize) -> Vec<PackedMatrix> {
        self.layers
            .get_mut(index)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The output layer.
    pub(crate) fn head(&self) -> Option<Arc<PackedLinear>> {
        self.head.as_ref().map(|(head, _)| head.clone())
    }

    /// A table of the rows of `source`. Where the output layer was packed from the same bytes, it serves the rows.
    pub(crate) fn table(&self, source: WeightSource) -> RowTable {
        match &self.head {
            Some((head, Some(tied))) if tied.is_same_as(&source) => RowTable::tied(head, &source),
            _ => RowTable::in_file(source),
        }
    }
}
