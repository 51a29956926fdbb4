//! Bytes of a file, held without copying them: a tensor keeps its file's mapping alive.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::source::{FileStamp, SourceFile};
use crate::Error;

/// What holds the bytes.
#[derive(Clone)]
enum Backing {
    Mapped(Arc<Mmap>),
    Owned(Arc<[u8]>),
    /// Part of the program.
    Fixed(&'static [u8]),
}

/// A run of bytes inside a mapped file (or inside memory). Cloning it copies no bytes.
#[derive(Clone)]
pub struct TensorBytes {
    backing: Backing,
    range: Range<usize>,
}

impl TensorBytes {
    /// Maps a whole file read-only.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be opened or mapped, or isn't a plain file.
    pub fn map_file(path: &Path) -> Result<TensorBytes, Error> {
        Ok(TensorBytes::map_source(path)?.bytes)
    }

    /// As [`TensorBytes::map_file`], with what the file system says of the very file that is mapped.
    pub(crate) fn map_source(path: &Path) -> Result<SourceFile, Error> {
        let io = |doing, source| Error::Io {
            file: path.to_path_buf(),
            doing,
            source,
        };
        let file = File::open(path).map_err(|e| io("open", e))?;
        let metadata = file.metadata().map_err(|e| io("read the size of", e))?;
        if !metadata.is_file() {
            let kind = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a plain file");
            return Err(io("open", kind));
        }
        let stamp = FileStamp::of(&metadata);
        if metadata.len() == 0 {
            let bytes = TensorBytes::owned(Vec::new());
            return Ok(SourceFile { bytes, stamp });
        }
        // SAFETY: the mapping is private and read-only. A process that truncates the file while
        // we read it can raise SIGBUS; docs/security.md says that model files must not be
        // rewritten in place while they are in use.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| io("map", e))?;
        let bytes = TensorBytes::mapped(map);
        Ok(SourceFile { bytes, stamp })
    }

    /// All of a file that has been mapped.
    pub(crate) fn mapped(map: Mmap) -> TensorBytes {
        let range = 0..map.len();
        TensorBytes {
            backing: Backing::Mapped(Arc::new(map)),
            range,
        }
    }

    /// Bytes that are part of the program.
    pub(crate) fn fixed(bytes: &'static [u8]) -> TensorBytes {
        TensorBytes {
            backing: Backing::Fixed(bytes),
            range: 0..bytes.len(),
        }
    }

    /// Bytes that live in memory.
    pub fn owned(bytes: Vec<u8>) -> TensorBytes {
        let range = 0..bytes.len();
        TensorBytes {
            backing: Backing::Owned(bytes.into()),
            range,
        }
    }

    /// The part of these bytes in `range` (relative to this run), or `None` if it isn't inside.
    pub fn slice(&self, range: Range<usize>) -> Option<TensorBytes> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| TensorBytes {
            backing: self.backing.clone(),
            range: start..end,
        })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        let all: &[u8] = match &self.backing {
            Backing::Mapped(map) => map,
            Backing::Owned(bytes) => bytes,
            Backing::Fixed(bytes) => bytes,
        };
        all.get(self.range.clone()).unwrap_or(&[])
    }

    /// These bytes where they are if they start at a multiple of `align`, which must not be over 8;
    /// a copy that does otherwise. Tensors inside a model file start anywhere.
    pub fn aligned(self, align: usize) -> TensorBytes {
        if self.as_slice().as_ptr().addr().is_multiple_of(align.max(1)) {
            return self;
        }
        // Behind the two counters of an `Arc` bytes are as aligned as these are.
        TensorBytes::owned(self.as_slice().to_vec())
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether the bytes are in a mapped file, the program's own among them: they cost no memory of their own.
    pub fn is_mapped(&self) -> bool {
        matches!(self.backing, Backing::Mapped(_) | Backing::Fixed(_))
    }

    /// Tells the operating system that the pages under these bytes aren't needed for now. They no
    /// longer count as this process's memory, and come back from the file when read again.
    pub(crate) fn release_pages(&self) {
        #[cfg(unix)]
        if let Backing::Mapped(map) = &self.backing {
            // SAFETY: the map is private and read-only, so that dropping pages loses nothing: the
            // next read brings the same bytes back from the file.
            let advised = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    self.range.start,
                    self.range.len(),
                )
            };
            if let Err(error) = advised {
                log::debug!("pages of a mapped file were not released: {error}");
            }
        }
    }
}

impl std::ops::Deref for TensorBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for TensorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "owned" };
        write!(f, "TensorBytes({kind}, {:?})", self.range)
    }
}
