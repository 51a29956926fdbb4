//! Where cache files go: beside the model, or into the user's cache folder.

use std::path::{Path, PathBuf};

use furlong_core::IsaKind;
use sha2::{Digest, Sha256};

/// The folder for cache files in a model's folder.
const FOLDER: &str = ".furlong";

/// The cache file in the folder of the model file `model`; `None` if a link there leads somewhere else, where whoever
/// made the model has no say.
pub(crate) fn beside(model: &Path, isa: IsaKind) -> Option<PathBuf> {
    let folder = model.parent().unwrap_or(Path::new(".")).join(FOLDER);
    let is_link = folder.symlink_metadata().is_ok_and(|it| it.is_symlink());
    (!is_link).then(|| folder.join(name(model, isa)))
}

/// The cache file of the model file `model` in a folder for those of many models.
pub(super) fn in_folder(folder: &Path, model: &Path, isa: IsaKind) -> PathBuf {
    let whole = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    folder.join(format!("{digest}-{}", name(model, isa)))
}

/// `XDG_CACHE_HOME/furlong` or `HOME/.cache/furlong`.
pub(super) fn users_folder() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(cache?.join("furlong"))
}

/// One name for each model file and instruction set: a cache that is out of date is replaced, not left behind.
fn name(model: &Path, isa: IsaKind) -> String {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{}.packed", isa.name())
}
