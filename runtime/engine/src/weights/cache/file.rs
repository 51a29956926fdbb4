//! Reading and writing cache files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memmap2::Mmap;

use super::MakeError;
use super::header::{HEADER_BYTES, Header, Key, Match, sources_digest};
use crate::import::{SourceFile, TensorBytes};
use crate::pool::Pool;
use crate::weights::packing::pack_matrix;
use crate::weights::{Contents, PackError};

/// Temporary files older than this were left by a process that ended.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The packed bytes in the cache file `place`, mapped; or why it isn't one for `key`.
pub(super) fn open(place: &Path, key: &Key, sources: &[SourceFile]) -> Result<TensorBytes, String> {
    let said = |error: io::Error| error.to_string();
    // What a stranger's link leads to must not be written to.
    if !fs::symlink_metadata(place).map_err(said)?.is_file() {
        return Err("not a plain file".to_owned());
    }
    let file = File::open(place).map_err(said)?;
    if file.metadata().map_err(said)?.len() != key.file_bytes {
        return Err("a cache of another model, or cut off".to_owned());
    }
    // SAFETY: the mapping is private and read-only. Cache files are written under another name and then put in
    // place, never changed once they are there but for their header; docs/security.md says what happens to a program
    // whose files are cut off by another one.
    let map = unsafe { Mmap::map(&file) }.map_err(said)?;
    let header = Header::decode(&map).ok_or("no cache, or a damaged one")?;
    match key.matches(&header) {
        Match::Same => {}
        Match::Other => return Err("a cache of other weights".to_owned()),
        Match::IfSourcesAre(expected) => {
            if sources_digest(sources) != expected {
                return Err("a cache of what the model was before".to_owned());
            }
            let header = key.header(expected, sources);
            let renewed = OpenOptions::new()
                .write(true)
                .open(place)
                .and_then(|mut file| file.write_all(&header.encode()));
            if let Err(error) = renewed {
                log::debug!("{}: not marked as current: {error}", place.display());
            }
        }
    }
    let all = TensorBytes::mapped(map);
    all.slice(HEADER_BYTES..all.len())
        .ok_or_else(|| "cut off".to_owned())
}

/// Packs `contents` into the file `place`. It appears there at once and whole, or not at all, whoever else makes it
/// at the same time.
pub(super) fn make(
    place: &Path,
    key: &Key,
    contents: &Contents<'_>,
    sources: &[SourceFile],
    pool: &Pool,
) -> Result<(), MakeError> {
    let folder = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    remove_abandoned(place, folder);
    let draft = Draft::new(place)?;
    let mut file = &draft.file;
    let mut header = key.header(sources_digest(sources), sources).encode();
    header.resize(HEADER_BYTES, 0);
    file.write_all(&header)?;
    for matrix in contents.layers.iter().flatten() {
        pack_matrix(matrix, pool, |piece| Ok(file.write_all(piece)?)).map_err(
            |error| match error {
                PieceError::Pack(error) => MakeError::Pack(PackError::new(&matrix.name(), error)),
                PieceError::Io(error) => MakeError::Io(error),
            },
        )?;
    }
    file.sync_all()?;
    draft.put_in_place(place)?;
    Ok(())
}

/// Why a piece of a matrix was not written.
enum PieceError {
    Pack(furlong_core::Error),
    Io(io::Error),
}

impl From<furlong_core::Error> for PieceError {
    fn from(error: furlong_core::Error) -> PieceError {
        PieceError::Pack(error)
    }
}

impl From<io::Error> for PieceError {
    fn from(error: io::Error) -> PieceError {
        PieceError::Io(error)
    }
}

/// A file under a name of its own, which is removed unless it is put in place.
struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    fn new(place: &Path) -> io::Result<Draft> {
        static DRAFTS: AtomicUsize = AtomicUsize::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // Processes of other containers may have our number.
        let name = format!(
            "{}{}-{}-{}.tmp",
            prefix(place),
            now.unwrap_or_default().as_nanos(),
            std::process::id(),
            DRAFTS.fetch_add(1, Ordering::Relaxed)
        );
        let path = place.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Draft { file, path })
    }

    fn put_in_place(self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        if let Some(folder) = place.parent() {
            // Not every file system can; then the name is kept when the system sees fit.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is in place there is nothing under this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// What the names of temporary files for `place` start with.
fn prefix(place: &Path) -> String {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.")
}

/// Removes what processes that were ended have left in `folder`.
fn remove_abandoned(place: &Path, folder: &Path) {
    let prefix = prefix(place);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_string_lossy();
        let ours = ours.starts_with(&prefix) && ours.ends_with(".tmp");
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let age = age.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
        if ours && age.is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
