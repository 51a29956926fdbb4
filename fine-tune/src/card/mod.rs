//! The model card: what a model is, where it comes from and how good it is, for people (`model-card.md`), for machines
//! (`model.jsonld`) and in the model itself (ONNX metadata).
//!
//! The metadata is the source: both files are made from it, when a model is exported and again when an evaluation is
//! recorded. Results are kept in `evaluation.json` beside them.

mod facts;
mod json_ld;
mod markdown;
mod record;
#[cfg(test)]
mod tests;
mod training;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::export::{DATA_FILE, MODEL_FILE};

pub use facts::{Facts, ModelFile, Task};
pub use record::{Results, record};
pub use training::TrainingRecord;
#[cfg(feature = "train")]
pub(crate) use training::{FOLDER, SUMMARY};

/// Name of the card for people.
pub const CARD_FILE: &str = "model-card.md";
/// Name of the card for machines: JSON-LD.
pub const JSON_LD_FILE: &str = "model.jsonld";
/// Name of the file with the recorded results.
pub const RESULTS_FILE: &str = "evaluation.json";

/// Writes both cards of the model in `folder`, whose ONNX file has this metadata. Returns the names of the files.
///
/// # Errors
/// When the model can't be read or a card can't be written.
pub fn write(folder: &Path, metadata: &BTreeMap<String, String>) -> Result<[&'static str; 2]> {
    let files = [MODEL_FILE, DATA_FILE].map(|name| ModelFile::of(folder, name));
    let files = files
        .into_iter()
        .filter_map(Result::transpose)
        .collect::<Result<_>>()?;
    let facts = Facts::new(metadata, files);
    replace(&folder.join(CARD_FILE), markdown::card(&facts).as_bytes())?;
    let linked = format!("{:#}\n", json_ld::card(&facts));
    replace(&folder.join(JSON_LD_FILE), linked.as_bytes())?;
    Ok([CARD_FILE, JSON_LD_FILE])
}

/// Writes a file so that there is either the old one or the whole new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".furlong-card-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o644));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.as_file().sync_all().map_err(Error::io(path))?;
    file.persist(path)
        .map_err(|error| Error::io(path)(error.error))?;
    Ok(())
}
