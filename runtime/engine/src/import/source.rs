//! The files that a model was read from, so that what is made of them can be told apart from what was made of others.

use std::fs::Metadata;
use std::time::UNIX_EPOCH;

use super::TensorBytes;

/// A file of a model.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// All of it.
    pub bytes: TensorBytes,
    /// What the file system said of it when it was opened.
    pub stamp: FileStamp,
}

/// What the file system says of a file. It changes whenever the content does, and often when it doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    /// Its length.
    pub bytes: u64,
    /// Its number in the file system; 0 where there are none.
    pub inode: u64,
    /// When its content was written, in nanoseconds since 1970.
    pub modified_ns: u64,
    /// When its content, name or owner last changed, which no program can set back; `modified_ns` where there is no
    /// such time.
    pub changed_ns: u64,
}

impl FileStamp {
    /// What `metadata` says.
    pub(crate) fn of(metadata: &Metadata) -> FileStamp {
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = since.map_or(0, |time| time.as_nanos() as u64);
        #[cfg(unix)]
        let (inode, changed_ns) = {
            use std::os::unix::fs::MetadataExt;
            let seconds = metadata.ctime().wrapping_mul(1_000_000_000);
            (
                metadata.ino(),
                seconds.wrapping_add(metadata.ctime_nsec()) as u64,
            )
        };
        #[cfg(not(unix))]
        let (inode, changed_ns) = (0, modified_ns);
        FileStamp {
            bytes: metadata.len(),
            inode,
            modified_ns,
            changed_ns,
        }
    }
}
