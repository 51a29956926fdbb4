//! Files of a model folder: opened only inside the folder, read only up to a limit, mapped rather than copied.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Limit for files of settings, in bytes.
pub const SETTINGS_LIMIT: u64 = 16 << 20;
/// Limit for tokenizers and shard indexes, in bytes.
pub const TABLE_LIMIT: u64 = 256 << 20;

/// The path of file `name` in `folder`; `None` when there is no such file.
///
/// # Errors
/// When `name` is an absolute path, has a `..`, or leads out of the folder through a link. Links into the blob store of a
/// Hugging Face cache are followed, because its snapshots consist of them.
pub fn inside(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    if name.is_empty()
        || !Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(Error::malformed(
            folder,
            format!("file name {name:?}"),
            "only names of files inside this folder are followed",
        ));
    }
    let path = folder.join(name);
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path)(error)),
        Ok(_) => {}
    }
    let real = path.canonicalize().map_err(Error::io(&path))?;
    let root = folder.canonicalize().map_err(Error::io(folder))?;
    let blobs = root
        .parent()
        .filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))
        .and_then(Path::parent)
        .map(|repository| repository.join("blobs"));
    if !real.starts_with(&root) && !blobs.is_some_and(|blobs| real.starts_with(blobs)) {
        return Err(Error::malformed(
            &path,
            "link",
            "it leads out of the model's folder",
        ));
    }
    if !real.is_file() {
        return Err(Error::malformed(&path, "file type", "not an ordinary file"));
    }
    Ok(Some(path))
}

/// The text of file `name` in `folder`, at most `limit` bytes; `None` when there is no such file.
pub fn text(folder: &Path, name: &str, limit: u64) -> Result<Option<String>> {
    let Some(path) = inside(folder, name)? else {
        return Ok(None);
    };
    let file = File::open(&path).map_err(Error::io(&path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io(&path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::malformed(
            &path,
            "length",
            format!("longer than {limit} bytes, which is the limit for such a file"),
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::malformed(&path, "text", error.utf8_error().to_string()))?;
    Ok(Some(text))
}

/// The JSON in file `name` of `folder`; `None` when there is no such file.
pub fn json(folder: &Path, name: &str, limit: u64) -> Result<Option<Value>> {
    text(folder, name, limit)?
        .map(|text| parse_json(&folder.join(name), &text))
        .transpose()
}

/// The JSON in `text`, which is from `path`.
pub fn parse_json(path: &Path, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::malformed(path, "JSON", error.to_string()))
}

/// A file in memory, read by the operating system as it is looked at.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    map: Option<Mmap>,
}

impl Mapped {
    /// Maps the file.
    pub fn open(path: &Path) -> Result<Mapped> {
        // Asked before it is opened, because opening a pipe waits for its other end.
        let metadata = path.metadata().map_err(Error::io(path))?;
        if !metadata.is_file() {
            return Err(Error::malformed(path, "file type", "not an ordinary file"));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let map = if metadata.len() == 0 {
            None
        } else {
            // SAFETY: the map is read-only and private to this process. Another program that shortens the file while it is
            // mapped makes the operating system end this one; nothing is assumed about the bytes, so a change of them
            // is only a change of input.
            Some(unsafe { Mmap::map(&file) }.map_err(Error::io(path))?)
        };
        Ok(Mapped {
            path: path.to_owned(),
            map,
        })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

/// `sha256:` and the digest of all `files`, one after another; for one file, what `sha256sum` says of it.
pub fn digest<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for bytes in files {
        hasher.update(bytes);
    }
    let hex: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
