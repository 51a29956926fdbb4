//! What is checked on this machine: form, warnings, and every crate's tests.

use super::report::{self, Outcome};
use crate::board::{Builder, TRAINING};
use crate::{build, models, packages, test, toolchain, workspace};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// What all steps build with: so nothing is built twice.
pub const BUILDER: Builder = Builder::HostWithTraining;

fn cargo(args: &[&str]) -> Result<Command> {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(workspace::root()?);
    Ok(command)
}

/// `cargo fmt --check`.
pub fn format() -> Result<Outcome> {
    report::check(&mut cargo(&["fmt", "--all", "--check"])?)
}

/// `cargo clippy` over everything, warnings forbidden.
pub fn clippy() -> Result<Outcome> {
    let args = [
        "clippy",
        "--release",
        "--locked",
        "--workspace",
        "--all-targets",
        TRAINING,
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    report::check(&mut cargo(&args)?)
}

/// `cargo doc`, warnings forbidden.
pub fn docs() -> Result<Outcome> {
    let args = [
        "doc",
        "--release",
        "--locked",
        "--workspace",
        "--no-deps",
        TRAINING,
        "--quiet",
    ];
    report::check(cargo(&args)?.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The kernels must build where there is no std and no heap.
pub fn no_std() -> Result<Outcome> {
    report::check(
        toolchain::bare_metal("build", "thumbv7em-none-eabihf")?.args([
            "-p",
            "furlong-core",
            "--no-default-features",
        ]),
    )
}

/// Builds what [`tests`] runs and what other steps run.
pub fn build() -> Result<Outcome> {
    BUILDER.programs("test", &["--no-run"])?;
    furlong()?;
    exporter()?;
    Ok(Outcome::passed())
}

/// `furlong` for this machine. Cargo is asked once in a run: another step's build would let it wait.
pub fn furlong() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    build::once(&BUILT, || build::furlong(&BUILDER))
}

/// `fine-tune` for this machine, in the same way.
pub fn exporter() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    build::once(&BUILT, || models::exporter(&BUILDER))
}

/// Every crate's tests.
pub fn tests() -> Result<Outcome> {
    let mut command = BUILDER.cargo("test")?;
    command.arg("--no-fail-fast");
    test::parity::environment(&mut command)?;
    report::rust_tests("host", &mut command)
}

/// Training on a Vulkan device that is a program, against the processor and PyTorch: the road of every graphics card.
pub fn vulkan() -> Result<Outcome> {
    packages::ensure(&[packages::VULKAN])?;
    let mut command = Builder::Host.cargo("test")?;
    command.args([
        "--no-fail-fast",
        "--features=furlong-fine-tune/gpu",
        "--test=train",
        "--test=training",
        "vulkan",
    ]);
    report::rust_tests("vulkan", &mut command)
}
