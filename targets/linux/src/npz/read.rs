//! Reading an archive of arrays, within limits.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use super::NpzError;
use super::npy::{self, Header, NpyArray};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most arrays.
    pub arrays: usize,
    /// The most bytes of all arrays together, unpacked.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            arrays: 4096,
            bytes: 1 << 30,
        }
    }
}

/// Reads all arrays of an npz file, in its order.
///
/// # Errors
/// A file that can't be read, isn't an archive, holds what isn't a supported array, or goes past `limits`.
pub fn read(path: &Path, limits: Limits) -> Result<Vec<(String, NpyArray)>, NpzError> {
    let io = |source| NpzError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(std::io::Error::other("is not a plain file")));
    }
    read_from(BufReader::new(file), path, limits)
}

/// As [`read`], from any source; `path` only names it in errors.
///
/// # Errors
/// As [`read`].
pub fn read_from(
    source: impl Read + Seek,
    path: &Path,
    limits: Limits,
) -> Result<Vec<(String, NpyArray)>, NpzError> {
    let archive_error = |source| NpzError::Archive {
        path: path.to_owned(),
        source,
    };
    let too_large = |reason| NpzError::TooLarge {
        path: path.to_owned(),
        reason,
    };
    let mut archive = ZipArchive::new(source).map_err(archive_error)?;
    if archive.len() > limits.arrays {
        let reason = format!(
            "{} arrays are more than the {} allowed",
            archive.len(),
            limits.arrays
        );
        return Err(too_large(reason));
    }
    let mut left = limits.bytes;
    let mut arrays: Vec<(String, NpyArray)> = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(archive_error)?;
        let name = entry.name().map_err(archive_error)?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let array_error = |reason| NpzError::Array {
            path: path.to_owned(),
            array: name.clone(),
            reason,
        };
        let header = read_header(&mut entry).map_err(array_error)?;
        if header.data_bytes > left {
            let reason = format!(
                "the arrays take more than the {} bytes allowed",
                limits.bytes
            );
            return Err(too_large(reason));
        }
        left -= header.data_bytes;
        let data = read_data(&mut entry, header.data_bytes).map_err(array_error)?;
        if arrays.iter().any(|(known, _)| *known == name) {
            return Err(array_error("is there twice".to_owned()));
        }
        let array = NpyArray {
            dtype: header.dtype,
            shape: header.shape,
            data,
        };
        arrays.push((name, array));
    }
    Ok(arrays)
}

fn read_header(entry: &mut impl Read) -> Result<Header, String> {
    fn take<const N: usize>(entry: &mut impl Read) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        entry
            .read_exact(&mut bytes)
            .map_err(|error| format!("the header can't be read: {error}"))?;
        Ok(bytes)
    }
    let prefix = take::<{ npy::PREFIX_BYTES }>(entry)?;
    let length = npy::header_length(prefix, || take::<2>(entry))?;
    let mut text = vec![0; length];
    entry
        .read_exact(&mut text)
        .map_err(|error| format!("the header can't be read: {error}"))?;
    let text = String::from_utf8(text).map_err(|_| "the header isn't text".to_owned())?;
    Header::parse(&text)
}

/// Reads exactly `bytes` bytes to the end of an entry. The buffer grows with what comes, not with what is promised.
fn read_data(entry: &mut impl Read, bytes: usize) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    let limit = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(1);
    entry
        .take(limit)
        .read_to_end(&mut data)
        .map_err(|error| format!("the numbers can't be read: {error}"))?;
    if data.len() == bytes {
        return Ok(data);
    }
    let found = if data.len() > bytes {
        "more than".to_owned()
    } else {
        format!("{} of", data.len())
    };
    Err(format!(
        "its shape asks for {bytes} bytes of numbers, but there are {found} that many"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npz::{Dtype, write};

    fn sample() -> Vec<(String, NpyArray)> {
        let array = NpyArray {
            dtype: Dtype::I16,
            shape: vec![2, 3],
            data: (0..12).collect(),
        };
        let empty = NpyArray {
            dtype: Dtype::F32,
            shape: vec![0, 4],
            data: vec![],
        };
        vec![("x".to_owned(), array), ("empty".to_owned(), empty)]
    }

    fn sample_bytes() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        write(&path, &sample()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::read(path).unwrap()
    }

    fn read_bytes(bytes: &[u8], limits: Limits) -> Result<Vec<(String, NpyArray)>, NpzError> {
        read_from(std::io::Cursor::new(bytes), Path::new("x.npz"), limits)
    }

    #[test]
    fn what_is_written_comes_back() {
        assert_eq!(
            read_bytes(&sample_bytes(), Limits::default()).unwrap(),
            sample()
        );
    }

    #[test]
    fn limits_hold() {
        let bytes = sample_bytes();
        assert!(
            read_bytes(
                &bytes,
                Limits {
                    arrays: 1,
                    ..Limits::default()
                }
            )
            .is_err()
        );
        assert!(
            read_bytes(
                &bytes,
                Limits {
                    bytes: 11,
                    ..Limits::default()
                }
            )
            .is_err()
        );
    }

    #[test]
    fn broken_archives_are_errors() {
        let bytes = sample_bytes();
        for length in 0..bytes.len() {
            assert!(read_bytes(&bytes[..length], Limits::default()).is_err());
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut broken = bytes.clone();
                broken[position] ^= 1 << bit;
                // Some bits mean nothing; no bit may make it panic.
                let _ = read_bytes(&broken, Limits::default());
            }
        }
    }
}
