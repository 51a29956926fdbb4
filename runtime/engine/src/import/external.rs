//! External data: other files that a model names, allowed only inside the model's own folder.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use super::source::SourceFile;
use super::{TensorBytes, invalid};
use crate::{EmbeddedModel, Error};

/// The external files of one model, each mapped once.
#[derive(Debug)]
pub(crate) struct ExternalFiles {
    place: Place,
    /// Locations as the model spells them: most tensors name the same one, and finding a file costs system calls.
    found: HashMap<String, TensorBytes>,
    mapped: BTreeMap<PathBuf, SourceFile>,
}

/// Where external files may be.
#[derive(Debug)]
enum Place {
    /// Nowhere: the model is in memory.
    Nowhere,
    /// In the model's folder.
    Folder(PathBuf),
    /// In the program, as the model is.
    Embedded(EmbeddedModel),
}

const KEEP_INSIDE: &str = "keep external data beside the model file, and name it relative to it";

impl ExternalFiles {
    pub fn in_folder(folder: &Path) -> ExternalFiles {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        ExternalFiles::at(Place::Folder(folder.to_path_buf()))
    }

    pub fn embedded(model: EmbeddedModel) -> ExternalFiles {
        ExternalFiles::at(Place::Embedded(model))
    }

    pub fn none() -> ExternalFiles {
        ExternalFiles::at(Place::Nowhere)
    }

    fn at(place: Place) -> ExternalFiles {
        ExternalFiles {
            place,
            found: HashMap::new(),
            mapped: BTreeMap::new(),
        }
    }

    /// The bytes of the file at `location`, which `place` in the model file `model` names.
    pub fn open(
        &mut self,
        model: &Path,
        place: &str,
        location: &str,
    ) -> Result<TensorBytes, Error> {
        if let Some(known) = self.found.get(location) {
            return Ok(known.clone());
        }
        let bytes = self.find(model, place, location)?;
        self.found.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }

    /// The files that were opened, in an order that depends on their names alone.
    pub fn into_files(self) -> impl Iterator<Item = SourceFile> {
        self.mapped.into_values()
    }

    fn find(&mut self, model: &Path, place: &str, location: &str) -> Result<TensorBytes, Error> {
        let refuse = |reason: String| invalid(model, place, reason, KEEP_INSIDE);
        let folder = match &self.place {
            Place::Folder(folder) => folder,
            Place::Embedded(embedded) => {
                let bytes = embedded.file(location).map(TensorBytes::fixed);
                return bytes.ok_or_else(|| {
                    refuse(format!("external data {location:?} is not in the program"))
                });
            }
            Place::Nowhere => {
                return Err(refuse(
                    "external data in a model that is not in a file".into(),
                ));
            }
        };
        let relative = Path::new(location);
        let plain = relative
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain || location.is_empty() || location.contains('\0') {
            return Err(refuse(format!(
                "external data location {location:?} leaves the model's folder"
            )));
        }
        let io = |file: &Path, source| Error::Io {
            file: file.to_path_buf(),
            doing: "find",
            source,
        };
        let folder = folder.canonicalize().map_err(|e| io(folder, e))?;
        let joined = folder.join(relative);
        let real = joined.canonicalize().map_err(|e| io(&joined, e))?;
        if !real.starts_with(&folder) {
            return Err(refuse(format!(
                "external data location {location:?} is a link that leaves the model's folder"
            )));
        }
        if let Some(known) = self.mapped.get(&real) {
            return Ok(known.bytes.clone());
        }
        let file = TensorBytes::map_source(&real)?;
        let bytes = file.bytes.clone();
        self.mapped.insert(real, file);
        Ok(bytes)
    }
}
