//! Where a model's files are: in a folder, or in the program itself.
//!
//! A model that is part of a program takes the same road as one in a folder: import, tokenizer and chat template ask
//! [`ModelFiles`] for a file by its name, and only here do the two part.

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::Error;

/// The largest configuration file or template that is read, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 16 << 20;

/// The files of a model.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// In this folder.
    Folder(PathBuf),
    /// In the program.
    Embedded(EmbeddedModel),
}

/// A model that is part of the program: the files of its folder, by name.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedModel {
    name: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

impl EmbeddedModel {
    /// A model called `name`, which stands for its folder in messages, of files with their names.
    pub const fn new(
        name: &'static str,
        files: &'static [(&'static str, &'static [u8])],
    ) -> EmbeddedModel {
        EmbeddedModel { name, files }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The content of the file `name`, if there is one.
    pub fn file(&self, name: &str) -> Option<&'static [u8]> {
        let found = self.files.iter().find(|(known, _)| *known == name);
        found.map(|(_, bytes)| *bytes)
    }
}

impl ModelFiles {
    /// What messages call the file `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            ModelFiles::Folder(folder) => folder.join(name),
            ModelFiles::Embedded(embedded) => Path::new(embedded.name).join(name),
        }
    }

    /// Reads the whole file `name` of at most `limit` bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// Anything else than a plain file, a file larger than `limit`, and whatever the operating system says.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Cow<'static, [u8]>>, Error> {
        match self {
            ModelFiles::Folder(folder) => {
                Ok(read_optional(&folder.join(name), limit)?.map(Cow::Owned))
            }
            ModelFiles::Embedded(embedded) => Ok(embedded.file(name).map(Cow::Borrowed)),
        }
    }

    /// Reads the JSON file `name` of at most [`CONFIG_LIMIT`] bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// As [`ModelFiles::read`]; and JSON that can't be parsed, with line and column.
    pub(crate) fn read_json(&self, name: &str) -> Result<Option<serde_json::Value>, Error> {
        let Some(bytes) = self.read(name, CONFIG_LIMIT)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::invalid(&self.path(name), "JSON", error.to_string()))
    }
}

impl From<&Path> for ModelFiles {
    fn from(folder: &Path) -> ModelFiles {
        ModelFiles::Folder(folder.to_owned())
    }
}

fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
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
