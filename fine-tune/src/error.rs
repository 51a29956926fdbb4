//! What can go wrong between a checkpoint and an exported model, and what to do about it.

use std::path::{Path, PathBuf};

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the file, the place in it, the reason and the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}; check that it exists and that you may access it", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is damaged, or is not what it claims to be.
    #[error("{}: {place}: {reason}; the file is damaged or not of this kind: fetch it again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file: a field, a tensor, a byte offset.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// A well-formed model that this version can't handle.
    #[error("{}: {field} is {value}, which is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file that asks for it.
        path: PathBuf,
        /// The field that asks for it.
        field: String,
        /// The value of that field.
        value: String,
        /// What would be accepted instead.
        supported: String,
    },
    /// A tensor that the architecture needs is not in the checkpoint.
    #[error("{}: tensor {name} is missing; the checkpoint is incomplete or its config.json belongs to another model", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        name: String,
    },
    /// A tensor has another shape than the architecture says.
    #[error("{}: tensor {name} has shape {found:?}, the config asks for {expected:?}; config and weights belong to different models", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the architecture gives.
        expected: Vec<usize>,
    },
    /// An adapter that doesn't fit the checkpoint it is to be merged into.
    #[error("{}: {place}: {reason}; use an adapter that was trained on this base model", path.display())]
    Adapter {
        /// The adapter's file.
        path: PathBuf,
        /// The field or tensor.
        place: String,
        /// Why it doesn't fit.
        reason: String,
    },
    /// A file of data or answers that can't be used.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do instead.
        reason: String,
    },
    /// The runtime can't load or run the model.
    #[error(transparent)]
    Runtime(#[from] furlong_runtime::Error),
    /// A model, batch or setting that training can't work with.
    #[error("{subject}: {reason}")]
    Training {
        /// What is wrong: a setting, a parameter, the batch.
        subject: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// An export that can't be done as asked.
    #[error("{}: {reason}", path.display())]
    Export {
        /// The folder or file that was to be written.
        path: PathBuf,
        /// Why not, and what to do instead.
        reason: String,
    },
}

impl Error {
    /// An [`Error::Io`] for `path`; made for `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// An [`Error::Malformed`] at `place` in `path`.
    pub fn malformed(path: &Path, place: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Malformed {
            path: path.to_owned(),
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Unsupported`]: `field` of `path` has a `value` that is none of `supported`.
    pub fn unsupported(
        path: &Path,
        field: impl Into<String>,
        value: impl ToString,
        supported: impl Into<String>,
    ) -> Error {
        Error::Unsupported {
            path: path.to_owned(),
            field: field.into(),
            value: value.to_string(),
            supported: supported.into(),
        }
    }

    /// An [`Error::Training`] about `subject`.
    pub fn training(subject: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Training {
            subject: subject.into(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Adapter`] at `place` in `path`.
    pub fn adapter(path: &Path, place: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Adapter {
            path: path.to_owned(),
            place: place.into(),
            reason: reason.into(),
        }
    }
}

/// What a parser of bytes found wrong, before a file name is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Fault {
    /// Where in the bytes: a field, a tensor, an offset.
    pub place: String,
    /// What is wrong there; for something well-formed that isn't supported, its value.
    pub reason: String,
    /// What would be supported, when nothing is wrong but that.
    pub supported: Option<String>,
}

impl Fault {
    /// Something malformed at `place`.
    pub fn new(place: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault {
            place: place.into(),
            reason: reason.into(),
            supported: None,
        }
    }

    /// A well-formed `value` at `place` that isn't one of `supported`.
    pub fn unsupported(
        place: impl Into<String>,
        value: impl ToString,
        supported: impl Into<String>,
    ) -> Fault {
        Fault {
            place: place.into(),
            reason: value.to_string(),
            supported: Some(supported.into()),
        }
    }

    /// The same fault, said of the file `path`.
    pub fn in_file(self, path: &Path) -> Error {
        match self.supported {
            None => Error::malformed(path, self.place, self.reason),
            Some(supported) => Error::unsupported(path, self.place, self.reason, supported),
        }
    }
}
