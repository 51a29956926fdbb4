//! Reading the small files of a model folder, each bounded before it is read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::Error;

/// The largest `tokenizer.json` that is read, in bytes. The biggest in use today (262,144 tokens) has 34 MB.
pub(crate) const TOKENIZER_LIMIT: u64 = 128 << 20;
/// The largest configuration file or template that is read, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 16 << 20;

/// Reads a whole file of at most `limit` bytes; `None` when there is no such file.
///
/// # Errors
/// Anything else than a plain file, a file larger than `limit`, and whatever the operating system says.
pub(crate) fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, "read", error)),
    };
    let metadata = file
        .metadata()
        .map_err(|error| Error::io(path, "read", error))?;
    if !metadata.is_file() {
        return Err(Error::invalid(path, "file", "is not a plain file"));
    }
    let too_large = || {
        Error::invalid(
            path,
            "file",
            format!("is larger than the {limit} bytes allowed for it"),
        )
    };
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(path, "read", error))?;
    // A file can grow between the two calls.
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(Some(bytes))
}

/// Reads a JSON file of at most [`CONFIG_LIMIT`] bytes; `None` when there is no such file.
///
/// # Errors
/// See [`read_optional`]; and JSON that can't be parsed, with line and column.
pub(crate) fn read_json(path: &Path) -> Result<Option<serde_json::Value>, Error> {
    let Some(bytes) = read_optional(path, CONFIG_LIMIT)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::invalid(path, "JSON", error.to_string()))
}

/// The text of a special token in `tokenizer_config.json`: a string, or an object with `content`.
pub(crate) fn token_text<'a>(config: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}
