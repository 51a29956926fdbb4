//! The file beside the model that holds its big tensors.
//!
//! Written front to back while the weights are converted, so that an export needs memory for one tensor at a
//! time. Offsets are aligned so that a runtime can map the file and use the bytes where they lie.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Alignment of every tensor: one cache line, and the widest vector register.
const ALIGNMENT: u64 = 64;
/// Alignment of tensors of at least a page: a page, as ONNX recommends for mapping.
const PAGE: u64 = 4096;

/// Where a tensor's bytes lie in the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Writes tensors one after another into the data file.
#[derive(Debug)]
pub struct ExternalData {
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
}

/// The data file couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: can't write the weights: {source}. Is the disk full, or the folder read-only?", path.display())]
pub struct WriteError {
    /// The data file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

impl ExternalData {
    /// Starts an empty data file at `path`.
    ///
    /// # Errors
    /// When the file can't be created.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let file = File::create(path).map_err(|source| WriteError {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            file: BufWriter::with_capacity(1 << 20, file),
            end: 0,
        })
    }

    /// Name of the data file, as the model file refers to it.
    pub fn location(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Appends a tensor's bytes at the next aligned offset.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, bytes: &[u8]) -> Result<Extent, WriteError> {
        let length = bytes.len() as u64;
        let alignment = if length >= PAGE { PAGE } else { ALIGNMENT };
        let offset = self.end.next_multiple_of(alignment);
        let padding = [0u8; PAGE as usize];
        let gap = &padding[..(offset - self.end) as usize];
        self.write(gap)?;
        self.write(bytes)?;
        self.end = offset + length;
        Ok(Extent { offset, length })
    }

    /// Makes sure that every byte is on disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<u64, WriteError> {
        let result = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        result.map_err(|source| WriteError {
            path: self.path.clone(),
            source,
        })?;
        Ok(self.end)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|source| WriteError {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_aligned_and_bytes_are_where_they_are_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx.data");
        let mut data = ExternalData::create(&path).unwrap();
        let small = data.append(&[1, 2, 3]).unwrap();
        let next = data.append(&[4; 100]).unwrap();
        let big = data.append(&[5; 5000]).unwrap();
        assert_eq!(data.finish().unwrap(), 4096 + 5000);
        assert_eq!((small.offset, next.offset, big.offset), (0, 64, 4096));
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(&bytes[64..164], &[4; 100]);
        assert_eq!(&bytes[4096..], &[5; 5000]);
    }
}
