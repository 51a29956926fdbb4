//! Where things are: the repository, build outputs, the cache of what was downloaded.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};

/// The repository's root folder: the nearest folder upwards that holds `Cargo.toml` and `targets/`.
///
/// # Errors
/// When run outside the repository.
pub fn root() -> Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => env::current_dir().context("asking for the current folder")?,
    };
    for folder in start.ancestors() {
        if folder.join("Cargo.toml").is_file() && folder.join("targets").is_dir() {
            return Ok(folder.to_path_buf());
        }
    }
    bail!(
        "{}: no furlong repository here or above; run `cargo xtask` inside it",
        start.display()
    )
}

/// Cargo's build folder: `CARGO_TARGET_DIR` or `target/`.
///
/// # Errors
/// When run outside the repository.
pub fn target() -> Result<PathBuf> {
    let root = root()?;
    Ok(match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root.join(dir),
        _ => root.join("target"),
    })
}

/// Where firmware is built, and what goes with it. Cargo locks a folder while it builds there: in one of its own firmware is built
/// beside programs for Linux, with which it shares nothing.
///
/// # Errors
/// When run outside the repository.
pub fn bare_metal_target() -> Result<PathBuf> {
    Ok(target()?.join("bare-metal"))
}

/// What is downloaded or built once for all clones: `FURLONG_CACHE`, else `furlong/` under the user's cache folder.
///
/// # Errors
/// When neither `FURLONG_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = set("FURLONG_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("furlong")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/furlong")))
        .context("no cache folder: set FURLONG_CACHE or HOME")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    std::path::absolute(&folder).with_context(|| format!("resolving {}", folder.display()))
}

/// Makes a folder whole or not at all: `fill` writes into a folder beside `folder`, which is then renamed.
/// Does nothing when `folder` exists.
///
/// # Errors
/// What `fill` gives, or a failing file operation.
pub fn create_whole(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder
        .parent()
        .context("a folder to create needs a parent")?;
    let name = folder
        .file_name()
        .context("a folder to create needs a name")?
        .to_string_lossy();
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let partial = parent.join(format!(".{name}.partial-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir(&partial).with_context(|| format!("creating {}", partial.display()))?;
    let filled = fill(&partial).and_then(|()| {
        std::fs::rename(&partial, folder)
            .with_context(|| format!("renaming to {}", folder.display()))
    });
    if filled.is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    // Another run may have made the same folder in the meantime: then its copy is as good.
    if folder.is_dir() { Ok(()) } else { filled }
}
