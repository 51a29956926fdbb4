//! `cargo xtask setup`: everything this machine needs to cross-build, emulate and compare.

use crate::shell::say;
use crate::{packages, python, toolchain};
use anyhow::Result;

/// Installs what is missing: system packages, the cross toolchain, the Python peers.
///
/// # Errors
/// When something can't be installed; the message says what and how to do it by hand.
pub fn run() -> Result<()> {
    packages::ensure(&[packages::PYTHON, packages::CROSS, packages::EMULATORS])?;
    say("packages: compilers, emulators and Python are there");
    let cross = toolchain::ensure()?;
    say(format!(
        "toolchain: {} builds into {}",
        toolchain::AARCH64,
        cross.target.display()
    ));
    let python = python::peers()?;
    say(format!("python: peers are ready, {}", python.display()));
    Ok(())
}
