//! Checkpoints on the disk: a folder each, complete or not there at all.
//!
//! A checkpoint is written into a temporary folder beside the others, flushed to the disk, and renamed. A program that is killed,
//! or a disk that is full, leaves the earlier ones as they were.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

use super::state::State;
use crate::error::{Error, Fault, Result};

/// Numbers by name.
pub type Arrays = BTreeMap<String, TensorData>;

/// A checkpoint.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Where the run stood.
    pub state: State,
    /// The parameters that are trained.
    pub parameters: Arrays,
    /// What the optimiser remembered.
    pub optimiser: Arrays,
}

/// The folder of a run's checkpoints.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

const STATE: &str = "state.json";
const PARAMETERS: &str = "parameters.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const PREFIX: &str = "step-";
const TEMPORARY: &str = ".unfinished-";
/// The largest state file that is read, in bytes.
const STATE_LIMIT: u64 = 1 << 20;

impl Store {
    /// Opens the folder, makes it if need be, and removes what a killed program left half-written.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn open(folder: &Path) -> Result<Store> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let store = Store {
            folder: folder.to_owned(),
        };
        for name in store.names()? {
            if name.starts_with(TEMPORARY) {
                let path = folder.join(name);
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(store)
    }

    /// The folder of the checkpoint after `step` steps.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}"))
    }

    /// After how many steps there are checkpoints, ascending.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let names = self.names()?.into_iter();
        let steps = names.filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok());
        let mut steps: Vec<u64> = steps.collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Writes a checkpoint, unless there is one of its step already, which is the same.
    ///
    /// # Errors
    /// When the disk is full or the operating system refuses otherwise; nothing is left of it then.
    pub fn write(&self, saved: &Saved) -> Result<PathBuf> {
        let path = self.path(saved.state.step);
        if path.is_dir() {
            return Ok(path);
        }
        let staged = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.folder)
            .map_err(Error::io(&self.folder))?;
        write_arrays(&staged.path().join(PARAMETERS), &saved.parameters)?;
        write_arrays(&staged.path().join(OPTIMISER), &saved.optimiser)?;
        let file = staged.path().join(STATE);
        let text = serde_json::to_vec_pretty(&saved.state).unwrap_or_default();
        let write = || {
            let mut out = File::create(&file)?;
            out.write_all(&text)?;
            out.sync_all()
        };
        write().map_err(Error::io(&file))?;
        sync_folder(staged.path())?;
        let staged = staged.keep();
        if let Err(error) = fs::rename(&staged, &path) {
            // The first error is the one to report; what is left is removed when the folder is opened again.
            let _ = fs::remove_dir_all(&staged);
            return Err(Error::io(&path)(error));
        }
        sync_folder(&self.folder)?;
        Ok(path)
    }

    /// Reads the checkpoint after `step` steps.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    pub fn read(&self, step: u64) -> Result<Saved> {
        let folder = self.path(step);
        let path = folder.join(STATE);
        let length = path.metadata().map_err(Error::io(&path))?.len();
        if length > STATE_LIMIT {
            return Err(Error::malformed(&path, "file", "too long for a state"));
        }
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| Error::malformed(&path, "JSON", error.to_string()))?;
        if state.step != step {
            let reason = format!("is {}, and the folder's name says {step}", state.step);
            return Err(Error::malformed(&path, "step", reason));
        }
        Ok(Saved {
            state,
            parameters: read_arrays(&folder.join(PARAMETERS))?,
            optimiser: read_arrays(&folder.join(OPTIMISER))?,
        })
    }

    /// Removes all checkpoints but the newest `keep` and the one after `best` steps.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn prune(&self, keep: usize, best: Option<u64>) -> Result<()> {
        let steps = self.steps()?;
        let old = steps.len().saturating_sub(keep);
        for step in steps.into_iter().take(old) {
            if best != Some(step) {
                let path = self.path(step);
                // Renamed first, so that a checkpoint of which half is gone doesn't pass for one.
                let gone = self.folder.join(format!("{TEMPORARY}{step}"));
                fs::rename(&path, &gone).map_err(Error::io(&path))?;
                fs::remove_dir_all(&gone).map_err(Error::io(&gone))?;
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io(&self.folder))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(&self.folder))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }
}

/// Writes arrays of f32 as safetensors, down to the disk.
fn write_arrays(path: &Path, arrays: &Arrays) -> Result<()> {
    let views: std::result::Result<Vec<_>, _> = arrays
        .iter()
        .map(|(name, data)| {
            TensorView::new(
                Dtype::F32,
                data.shape().as_slice().to_vec(),
                data.as_bytes(),
            )
            .map(|view| (name.as_str(), view))
        })
        .collect();
    let refuse = |error: safetensors::SafeTensorError| match error {
        safetensors::SafeTensorError::IoError(error) => Error::io(path)(error),
        error => Error::malformed(path, "tensors", error.to_string()),
    };
    serialize_to_file(views.map_err(refuse)?, None, path).map_err(refuse)?;
    let file = File::open(path).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}

fn read_arrays(path: &Path) -> Result<Arrays> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let arrays = parse_arrays(&bytes).map_err(|fault| fault.in_file(path))?;
    Ok(arrays)
}

fn parse_arrays(bytes: &[u8]) -> std::result::Result<Arrays, Fault> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|error| Fault::new("tensors", error.to_string()))?;
    let mut arrays = Arrays::new();
    for (name, view) in tensors.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(Fault::new(name, format!("is {:?}, not f32", view.dtype())));
        }
        let numbers: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        arrays.insert(
            name.to_owned(),
            TensorData::new(numbers, view.shape().to_vec()),
        );
    }
    Ok(arrays)
}

/// Makes names in a folder last, where the operating system can.
fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(folder))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
