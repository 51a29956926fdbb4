//! Packed weights in a file: packed once, mapped from then on, its pages shared by all processes that run the model.
//!
//! A cache file holds what [`Contents`] lists, and a header that says what it was made from. The header is not
//! interpreted: the one that is expected is computed, and any file that has another one, or another length, is made
//! again. So nothing in the file can lead a read astray; the weights themselves are plain numbers, and any numbers
//! are safe to multiply by.

mod file;
mod header;
mod places;

use std::path::{Path, PathBuf};

use furlong_core::IsaKind;

use super::{Contents, PackError};
use crate::import::{OnnxModel, SourceFile, TensorBytes};
use crate::pool::Pool;
use crate::{Error, WeightsCache};
use header::Key;

pub(crate) use header::sources_digest;
pub(crate) use places::beside;

/// Packed bytes below this are faster packed than written to a file.
const WORTH_A_FILE: usize = 1 << 20;

/// Where one model's cache may be.
#[derive(Debug)]
pub(crate) struct Cache<'m> {
    places: Vec<PathBuf>,
    least_bytes: usize,
    sources: &'m [SourceFile],
}

impl<'m> Cache<'m> {
    /// No cache.
    pub(crate) fn none() -> Cache<'m> {
        Cache {
            places: Vec::new(),
            least_bytes: 0,
            sources: &[],
        }
    }

    /// The cache of `model` for `isa`, where `option` says. A model that isn't in a file has none.
    pub(crate) fn of(model: &'m OnnxModel, isa: IsaKind, option: &WeightsCache) -> Cache<'m> {
        let path = model.path();
        let (places, least_bytes) = match option {
            _ if model.files().is_empty() => (Vec::new(), 0),
            WeightsCache::Off => (Vec::new(), 0),
            WeightsCache::Folder(folder) => (vec![places::in_folder(folder, path, isa)], 0),
            WeightsCache::Auto => {
                let own = places::users_folder();
                let own = own.map(|folder| places::in_folder(&folder, path, isa));
                let places = [beside(path, isa), own];
                (places.into_iter().flatten().collect(), WORTH_A_FILE)
            }
        };
        Cache {
            places,
            least_bytes,
            sources: model.files(),
        }
    }

    /// The packed bytes of `contents`, mapped, and the file they are in. The file is made if there is none that fits.
    /// `None` where there may be no file, or none can be written.
    ///
    /// # Errors
    /// A layer that can't be packed.
    pub(crate) fn map_or_make(
        &self,
        contents: &Contents<'_>,
        isa: IsaKind,
        pool: &Pool,
    ) -> Result<Option<(PathBuf, TensorBytes)>, PackError> {
        if self.places.is_empty() || contents.bytes == 0 {
            return Ok(None);
        }
        let key = Key::new(contents, isa, self.sources);
        for place in &self.places {
            match file::open(place, &key, self.sources) {
                Ok(bytes) => return Ok(Some((place.clone(), bytes))),
                Err(reason) => log::debug!("{}: {reason}", place.display()),
            }
        }
        if contents.bytes < self.least_bytes {
            return Ok(None);
        }
        for place in &self.places {
            match make(place, &key, contents, self.sources, pool) {
                Ok(bytes) => return Ok(Some((place.clone(), bytes))),
                Err(MakeError::Pack(error)) => return Err(error),
                Err(MakeError::Io(error)) => {
                    log::warn!(
                        "packed weights can't be kept in {}: {error}",
                        place.display()
                    );
                }
            }
        }
        log::warn!("no place for packed weights: they are packed each time the model is loaded");
        Ok(None)
    }
}

/// Packs `contents` of the model file `model` for `isa` into the file `place`, whether or not there is one already.
///
/// # Errors
/// [`Error::Io`] when it can't be written; [`Error::Invalid`] for a layer that can't be packed.
pub(crate) fn write(
    model: &OnnxModel,
    contents: &Contents<'_>,
    isa: IsaKind,
    place: &Path,
    pool: &Pool,
) -> Result<(), Error> {
    let key = Key::new(contents, isa, model.files());
    match make(place, &key, contents, model.files(), pool) {
        Ok(_) => Ok(()),
        Err(MakeError::Pack(error)) => Err(error.of(model.path())),
        Err(MakeError::Io(source)) => Err(Error::Io {
            file: place.to_owned(),
            doing: "write",
            source,
        }),
    }
}

/// Why a file was not made.
#[derive(Debug)]
enum MakeError {
    Pack(PackError),
    Io(std::io::Error),
}

impl From<std::io::Error> for MakeError {
    fn from(error: std::io::Error) -> MakeError {
        MakeError::Io(error)
    }
}

fn make(
    place: &Path,
    key: &Key,
    contents: &Contents<'_>,
    sources: &[SourceFile],
    pool: &Pool,
) -> Result<TensorBytes, MakeError> {
    file::make(place, key, contents, sources, pool)?;
    file::open(place, key, sources).map_err(|reason| MakeError::Io(std::io::Error::other(reason)))
}

#[cfg(test)]
mod tests;
