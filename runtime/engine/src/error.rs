//! What can go wrong between a model file and a token, and what to do about it.

use std::path::{Path, PathBuf};

/// Everything the engine refuses or fails at.
///
/// Each message names the file or the place, the reason, and where it helps the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, mapped or read.
    #[error("can't read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file was read, but what it says is not valid.
    #[error("{}: {place}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it: a tensor, a node, a field.
        place: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The model is valid but asks for something this engine doesn't have.
    #[error("{}: not supported: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is missing, and what to do instead.
        reason: String,
    },
    /// The graph could not be turned into a plan.
    #[error("{}: can't prepare the graph: {reason}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What tract said, from the outermost to the innermost cause.
        reason: String,
    },
    /// A prompt or a generation went past the model's context.
    #[error(
        "the context is full: {len} tokens are in, {asked} more were asked for, the limit is {limit}; \
         truncate the session, or load the model with a larger context"
    )]
    ContextFull {
        /// Tokens in the session.
        len: usize,
        /// Tokens that were to be added.
        asked: usize,
        /// The most tokens a session can hold.
        limit: usize,
    },
    /// A token id that the model doesn't know.
    #[error(
        "token {token} is outside the vocabulary of {vocab_size} tokens; is this the model's own tokenizer?"
    )]
    Token {
        /// The token id.
        token: u32,
        /// How many tokens the model knows.
        vocab_size: usize,
    },
    /// The call doesn't fit the model or the session.
    #[error("{0}")]
    Usage(String),
    /// The graph failed while running.
    #[error("running the graph failed: {0}")]
    Run(String),
}

impl Error {
    /// An [`Error::Io`] for `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// An [`Error::Invalid`]: `place` in `path` is wrong for `reason`.
    pub(crate) fn invalid(
        path: &Path,
        place: impl Into<String>,
        reason: impl Into<String>,
    ) -> Error {
        Error::Invalid {
            path: path.to_owned(),
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Unsupported`] for `path`.
    pub(crate) fn unsupported(path: &Path, reason: impl Into<String>) -> Error {
        Error::Unsupported {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Graph`] that keeps the whole chain of causes.
    pub(crate) fn graph(path: &Path, cause: &tract_core::internal::TractError) -> Error {
        Error::Graph {
            path: path.to_owned(),
            reason: format!("{cause:#}"),
        }
    }

    /// An [`Error::Run`] that keeps the whole chain of causes.
    pub(crate) fn run(cause: &tract_core::internal::TractError) -> Error {
        Error::Run(format!("{cause:#}"))
    }
}
