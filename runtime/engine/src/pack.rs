//! Packing a model's weights ahead of time, for this machine or another.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use furlong_core::IsaKind;
use serde::Serialize;

use crate::Error;
use crate::import::OnnxModel;
use crate::model::{kind, rewrite};
use crate::pool::Pool;
use crate::rewrite::Rewritten;
use crate::weights::{Contents, cache};

/// What [`pack_weights`] made.
#[derive(Debug, Clone, Serialize)]
pub struct PackReport {
    /// The cache file.
    pub file: PathBuf,
    /// The instruction set it is for.
    pub isa: &'static str,
    /// Matrices in it.
    pub matrices: usize,
    /// Bytes of packed weights.
    pub bytes: usize,
}

/// Packs the weights of the model in the folder `path`, or the ONNX file `path`, for `isa`, which this machine needn't
/// have. The result is the file that loading the model there looks for, in the model's folder, unless `out` names
/// another one.
///
/// # Errors
/// As [`Model::load`](crate::Model::load); [`Error::Io`] when the file can't be written; [`Error::Usage`] for a
/// model that has nothing to pack.
pub fn pack_weights(
    path: &Path,
    isa: IsaKind,
    threads: NonZeroUsize,
    out: Option<&Path>,
) -> Result<PackReport, Error> {
    let onnx = OnnxModel::open(path)?;
    let pool = Pool::new(threads)?;
    let kind = kind(&onnx);
    let Rewritten { model, specs, head } = rewrite(onnx, kind)?;
    let linear = head.as_ref().map(|head| &head.linear);
    let contents = Contents::of(&specs, linear, isa).map_err(|error| error.of(model.path()))?;
    let matrices = contents.layers.iter().flatten().count();
    if matrices == 0 {
        let path = model.path().display();
        return Err(Error::Usage(format!("{path} has no weights to pack")));
    }
    let file = match out {
        Some(file) => file.to_owned(),
        None => cache::beside(model.path(), isa).ok_or_else(|| {
            let folder = model.folder().display();
            Error::Usage(format!(
                "{folder}/.furlong is a link that leads elsewhere; remove it, or name the file to write"
            ))
        })?,
    };
    cache::write(&model, &contents, isa, &file, &pool)?;
    Ok(PackReport {
        file,
        isa: isa.name(),
        matrices,
        bytes: contents.bytes,
    })
}
