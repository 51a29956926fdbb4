//! The QEMU plugin that counts guest instructions: `plugin/count.c`, built when needed.

use crate::{packages, shell, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Builds the plugin for the installed QEMU, once; gives the library.
///
/// # Errors
/// When there is no C compiler or QEMU.
pub fn build() -> Result<PathBuf> {
    packages::ensure(&[packages::EMULATORS])?;
    let source = workspace::root()?.join("targets/xtask/plugin/count.c");
    let interface = interface_version()?;
    let library = workspace::target()?.join(format!("count-plugin-{interface}.so"));
    let fresh = |file: &PathBuf| fs::metadata(file).and_then(|data| data.modified()).ok();
    if fresh(&library).is_some_and(|built| fresh(&source).is_some_and(|written| built >= written)) {
        return Ok(library);
    }
    let partial = library.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(workspace::target()?)?;
    shell::quiet(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"])
            .arg(format!("-DPLUGIN_VERSION={interface}"))
            .arg("-o")
            .args([&partial, &source]),
    )?;
    fs::rename(&partial, &library).with_context(|| format!("renaming to {}", library.display()))?;
    Ok(library)
}

/// Which version of the plugin interface the installed QEMU speaks: it refuses plugins that claim another.
fn interface_version() -> Result<u32> {
    let text = shell::capture(Command::new("qemu-aarch64").arg("--version"))?;
    let number = text
        .split("version ")
        .nth(1)
        .context("qemu-aarch64 --version says no version")?;
    let major = number
        .split('.')
        .next()
        .and_then(|part| part.parse::<u32>().ok())
        .context("QEMU's version isn't a number")?;
    Ok(if major < 9 { 1 } else { 2 })
}
