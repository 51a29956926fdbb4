//! Writing a folder so that it is either complete or not there.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::MODEL_FILE;
use crate::error::{Error, Result};

/// A temporary folder beside the one that is to be written. Removed when dropped, unless it was published.
#[derive(Debug)]
pub(super) struct Staging {
    folder: TempDir,
    out: PathBuf,
}

impl Staging {
    /// Checks that `out` may be written, and makes the temporary folder.
    ///
    /// # Errors
    /// When `out` is a file, or a folder with something in it: only a model folder is replaced, and only with `force`.
    pub(super) fn new(out: &Path, force: bool) -> Result<Self> {
        check(out, force)?;
        let parent = parent(out);
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let folder = temporary(out)?;
        Ok(Self {
            folder,
            out: out.to_owned(),
        })
    }

    /// The temporary folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts the folder in its place. A model folder that is there is moved aside first and removed last.
    ///
    /// # Errors
    /// When the operating system refuses; a folder that was there is then put back.
    pub(super) fn publish(self) -> Result<()> {
        let out = &self.out;
        let staged = self.folder.keep();
        if !out.exists() {
            return std::fs::rename(&staged, out).map_err(Error::io(out));
        }
        let aside = temporary(out)?;
        let old = aside.path().join("replaced");
        std::fs::rename(out, &old).map_err(Error::io(out))?;
        if let Err(error) = std::fs::rename(&staged, out) {
            // The first error is the one to report; if putting back fails too, the old folder is beside.
            if std::fs::rename(&old, out).is_err() {
                let kept = aside.keep();
                let reason = format!(
                    "{error}; the folder that was there is now in {}",
                    kept.display()
                );
                return Err(Error::Export {
                    path: out.clone(),
                    reason,
                });
            }
            return Err(Error::io(out)(error));
        }
        Ok(())
    }
}

fn check(out: &Path, force: bool) -> Result<()> {
    let refuse = |reason: &str| {
        Err(Error::Export {
            path: out.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        return refuse("is a file; give --out a folder to be made");
    }
    let empty = std::fs::read_dir(out)
        .map_err(Error::io(out))?
        .next()
        .is_none();
    match (empty, out.join(MODEL_FILE).is_file(), force) {
        (true, _, _) | (false, true, true) => Ok(()),
        (false, true, false) => {
            refuse("holds a model; choose another folder, or replace it with --force")
        }
        (false, false, _) => refuse(
            "is not empty and holds no model, so it is left alone; give --out a folder to be made",
        ),
    }
}

fn temporary(out: &Path) -> Result<TempDir> {
    let parent = parent(out);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".furlong-export-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o755));
    }
    builder.tempdir_in(parent).map_err(Error::io(parent))
}

fn parent(out: &Path) -> &Path {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_export_leaves_nothing_and_a_published_one_only_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("model");
        drop(Staging::new(&out, false).unwrap());
        assert!(names(home.path()).is_empty());

        let staging = Staging::new(&out, false).unwrap();
        std::fs::write(staging.path().join(MODEL_FILE), "one").unwrap();
        staging.publish().unwrap();
        assert!(Staging::new(&out, false).is_err());

        let staging = Staging::new(&out, true).unwrap();
        std::fs::write(staging.path().join(MODEL_FILE), "two").unwrap();
        staging.publish().unwrap();
        assert_eq!(names(home.path()), ["model"]);
        assert_eq!(
            std::fs::read_to_string(out.join(MODEL_FILE)).unwrap(),
            "two"
        );
    }

    #[test]
    fn a_folder_of_something_else_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("thesis.txt"), "years of work").unwrap();
        assert!(Staging::new(home.path(), true).is_err());
        assert_eq!(names(home.path()), ["thesis.txt"]);
    }
}
