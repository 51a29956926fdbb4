//! The same tests, cross-built, on emulated cores.

use super::report::{self, Outcome};
use crate::board::{Board, Program};
use crate::test;
use anyhow::{Result, bail};

/// The folders of the packages whose tests say something about another processor.
const PACKAGES: [&str; 4] = ["runtime/core", "runtime/engine", "targets/linux", "tests"];

/// Cross-builds all test programs and `furlong`.
pub fn build() -> Result<Outcome> {
    programs(&Board::load("cortex-a53")?)?;
    crate::build::furlong(&Board::load("cortex-a53")?)?;
    Ok(Outcome::passed())
}

/// All tests on a core of ARMv8.0.
pub fn cortex_a53() -> Result<Outcome> {
    on("cortex-a53", |_| true)
}

/// All tests on a core with dot product.
pub fn cortex_a76() -> Result<Outcome> {
    on("cortex-a76", |_| true)
}

/// The kernels' tests on a core with i8mm.
pub fn cortex_a_max() -> Result<Outcome> {
    on("cortex-a-max", |program| {
        program.package.ends_with("runtime/core")
    })
}

fn programs(board: &Board) -> Result<Vec<Program>> {
    let programs = board.builder()?.programs("test", &["--no-run"])?;
    let wanted = |program: &Program| {
        program.is_test
            && PACKAGES
                .iter()
                .any(|package| program.package.ends_with(package))
    };
    Ok(programs.into_iter().filter(wanted).collect())
}

fn on(board: &str, wanted: impl Fn(&Program) -> bool) -> Result<Outcome> {
    let board = Board::load(board)?;
    let programs: Vec<Program> = programs(&board)?.into_iter().filter(wanted).collect();
    if programs.is_empty() {
        bail!("{}: there is no test to run", board.id);
    }
    let mut all = Outcome::default();
    for program in programs {
        let mut command = board.command(&program.path, &[])?;
        command.current_dir(&program.package);
        test::parity::environment(&mut command)?;
        if let Some(runner) = board.runner() {
            command.env("FURLONG_RUNNER", runner);
        }
        let name = format!("{}-{}", board.id, program.name);
        match report::rust_tests(&name, &mut command) {
            Ok(outcome) => all.add(outcome),
            Err(error) => all.add(Outcome::broken(&error)),
        }
    }
    Ok(all)
}
