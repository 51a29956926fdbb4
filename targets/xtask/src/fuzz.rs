//! `cargo xtask fuzz`: the tests' fuzz targets, for longer.

use crate::board::Builder;
use crate::shell;
use anyhow::Result;

/// Runs the fuzz targets, each for `seconds`.
///
/// # Errors
/// When an input made a reader panic, hang or take too much memory: the output names the kept file.
pub fn run(seconds: u64, target: Option<&str>) -> Result<()> {
    let mut command = Builder::Host.cargo("test")?;
    command
        .args(["--test", "fuzz", "--", "--nocapture"])
        .args(target);
    shell::run(command.env("FURLONG_FUZZ_SECONDS", seconds.to_string()))
}
