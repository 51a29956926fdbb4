//! Writing an archive of arrays: whole, or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::NpzError;
use super::npy::{NpyArray, header_bytes};

/// Writes arrays to an npz file, as `numpy.savez` does (not compressed). The file appears under its name only when it is
/// complete.
///
/// # Errors
/// A folder that can't be written to, a full disk, or an array with more axes than the format holds.
pub fn write(path: &Path, arrays: &[(String, NpyArray)]) -> Result<(), NpzError> {
    let temporary = temporary_name(path);
    let written = write_to(&temporary, path, arrays).and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| NpzError::Io {
            path: path.to_owned(),
            source,
        })
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_to(temporary: &Path, path: &Path, arrays: &[(String, NpyArray)]) -> Result<(), NpzError> {
    let io = |source| NpzError::Io {
        path: path.to_owned(),
        source,
    };
    let archive = |source| NpzError::Archive {
        path: path.to_owned(),
        source,
    };
    let file = File::create(temporary).map_err(io)?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    for (name, array) in arrays {
        let header = header_bytes(array.dtype, &array.shape).map_err(|reason| NpzError::Array {
            path: path.to_owned(),
            array: name.clone(),
            reason,
        })?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(array.data.len() >= 1 << 31);
        zip.start_file(format!("{name}.npy"), options)
            .map_err(archive)?;
        zip.write_all(&header).map_err(io)?;
        zip.write_all(&array.data).map_err(io)?;
    }
    let writer = zip.finish().map_err(archive)?;
    let file = writer
        .into_inner()
        .map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

/// A name beside `path` that no other process uses.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
