//! Where the files of a run are.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::card::{FOLDER, SUMMARY};
use crate::error::{Error, Result};

/// The folders and files of a run: the result in its folder, everything else in `training` within.
#[derive(Debug, Clone)]
pub struct RunFiles {
    out: PathBuf,
}

impl RunFiles {
    /// The files of the run whose result is to stand in `out`.
    pub fn new(out: &Path) -> RunFiles {
        RunFiles {
            out: out.to_owned(),
        }
    }

    /// The folder of the result.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The folder of everything else.
    pub fn training(&self) -> PathBuf {
        self.out.join(FOLDER)
    }

    /// The settings that the run was begun with.
    pub fn settings(&self) -> PathBuf {
        self.training().join("settings.toml")
    }

    /// The figures of all steps.
    pub fn metrics(&self) -> PathBuf {
        self.training().join("metrics.jsonl")
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.training().join("checkpoints")
    }

    /// The plot of losses and learning rate.
    pub fn plot(&self) -> PathBuf {
        self.training().join("losses.svg")
    }

    /// What came of the run.
    pub fn summary(&self) -> PathBuf {
        self.training().join(SUMMARY)
    }

    /// Keeps other programs from going on with the same run for as long as the file is open.
    ///
    /// # Errors
    /// When another one is at it.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.settings();
        let file = File::open(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::training(
                format!("the run in {}", self.out.display()),
                "another program is at it; wait until it is done, or end it",
            )),
            Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
        }
    }

    /// Makes the folders of a new run.
    ///
    /// # Errors
    /// When there is something in the folder already; but a run that was killed before it had written its settings is begun
    /// anew.
    pub(super) fn create(&self) -> Result<()> {
        let training = self.training();
        let begun = training.is_dir() && !self.settings().exists();
        if self.out.exists() && !begun {
            let mut entries = fs::read_dir(&self.out).map_err(Error::io(&self.out))?;
            if entries.next().is_some() {
                return Err(Error::Export {
                    path: self.out.clone(),
                    reason: "is not empty; go on with the run in it with --resume, or choose another folder".to_owned(),
                });
            }
        }
        fs::create_dir_all(&training).map_err(Error::io(&training))
    }
}
