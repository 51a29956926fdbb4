//! What can go wrong between a model file and a token, and what to do about it.

use std::path::{Path, PathBuf};

use crate::import::UnsupportedOps;

/// Everything the engine refuses or fails at.
///
/// Each message names the file or the place, the reason, and where it helps the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, mapped or read.
    #[error("can't {doing} {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried, as in "can't open FILE".
        doing: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file was read, but what it says is not valid.
    #[error("{}: {place}: {reason}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where in it: a tensor, a node, a field.
        place: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The model is valid but asks for something this engine doesn't have.
    #[error("{}: not supported: {reason}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// What is missing, and what to do instead.
        reason: String,
    },
    /// The graph holds operators that nothing here can run.
    #[error("{}: {ops}", file.display())]
    UnsupportedOps {
        /// The model file.
        file: PathBuf,
        /// All of them, not only the first.
        ops: UnsupportedOps,
    },
    /// The graph could not be turned into a plan.
    #[error("{}: can't prepare the graph: {reason}", file.display())]
    Graph {
        /// The file.
        file: PathBuf,
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
    /// An [`Error::Io`]: what was tried (`doing`, as in "open") on `file` failed.
    pub(crate) fn io(file: &Path, doing: &'static str, source: std::io::Error) -> Error {
        Error::Io {
            file: file.to_owned(),
            doing,
            source,
        }
    }

    /// An [`Error::Invalid`]: `place` in `file` is wrong for `reason`.
    pub(crate) fn invalid(
        file: &Path,
        place: impl Into<String>,
        reason: impl Into<String>,
    ) -> Error {
        Error::Invalid {
            file: file.to_owned(),
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Unsupported`] for `file`.
    pub(crate) fn unsupported(file: &Path, reason: impl Into<String>) -> Error {
        Error::Unsupported {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Graph`] that keeps the whole chain of causes.
    pub(crate) fn graph(file: &Path, cause: &tract_core::internal::TractError) -> Error {
        Error::Graph {
            file: file.to_owned(),
            reason: format!("{cause:#}"),
        }
    }

    /// An [`Error::Run`] that keeps the whole chain of causes.
    pub(crate) fn run(cause: &tract_core::internal::TractError) -> Error {
        Error::Run(format!("{cause:#}"))
    }
}
