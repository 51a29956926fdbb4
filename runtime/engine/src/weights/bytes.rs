//! Bytes that somebody else owns: a slice of a mapped file or of a decoded proto, shared without copies.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

/// A range of immutable bytes, kept alive by a reference count. Cloning is cheap.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Map(Arc<Mmap>),
    Heap(Arc<Vec<u8>>),
}

impl SharedBytes {
    /// The bytes `range` of a mapped file; `None` when the range isn't inside it.
    pub fn from_map(map: Arc<Mmap>, range: Range<usize>) -> Option<SharedBytes> {
        map.get(range.clone())?;
        Some(SharedBytes {
            owner: Owner::Map(map),
            range,
        })
    }

    /// All of `bytes`.
    pub fn from_vec(bytes: Vec<u8>) -> SharedBytes {
        let range = 0..bytes.len();
        SharedBytes {
            owner: Owner::Heap(Arc::new(bytes)),
            range,
        }
    }

    /// Whether the bytes lie in a mapped file, and so cost no memory of their own.
    pub fn is_mapped(&self) -> bool {
        matches!(self.owner, Owner::Map(_))
    }

    /// Tells the operating system that the pages under these bytes aren't needed for now.
    ///
    /// They count no longer as this process's memory, and come back from the file when read again.
    pub fn release_pages(&self) {
        #[cfg(unix)]
        if let Owner::Map(map) = &self.owner {
            // SAFETY: the map is a private, read-only map of a file, so that dropping its pages loses nothing: a later
            // read brings the same bytes back.
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

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.owner {
            Owner::Map(map) => map,
            Owner::Heap(bytes) => bytes,
        };
        // The range was checked when the value was made.
        all.get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "heap" };
        write!(f, "{} {kind} bytes", self.range.len())
    }
}
