//! Named arrays in a file, as NumPy's `savez` writes them: a zip archive of `.npy` files.
//!
//! Such a file comes from a stranger. Each array's size is computed from its header and held against what is allowed
//! before anything is allocated, and no more than that is unpacked, so that a zip bomb ends in an error.

mod npy;
mod read;
mod write;

use std::path::PathBuf;

pub use npy::{Dtype, NpyArray};
pub use read::{Limits, read, read_from};
pub use write::write;

/// Why a file of arrays can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// The file could not be opened, read or written.
    #[error("can't access {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not a zip archive, or a broken one.
    #[error("{}: not a readable npz archive", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: zip::result::ZipError,
    },
    /// One array of the archive can't be taken.
    #[error("{}: array `{array}`: {reason}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The array's name.
        array: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The archive is larger than allowed.
    #[error("{}: {reason}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large, and the limit.
        reason: String,
    },
}
