//! The same tests, cross-built, on emulated cores.

use super::report::{self, Outcome};
use crate::board::{Board, Builder, Program};
use crate::test;
use anyhow::{Result, bail};

/// The packages whose tests say something about another processor. Their dependencies are the same, to the feature, as when the
/// whole workspace is built, which takes longer.
const SCOPE: [&str; 9] = [
    "--package",
    "furlong-core",
    "--package",
    "furlong-runtime",
    "--package",
    "furlong",
    "--package",
    "furlong-tests",
    "--no-default-features",
];
/// Whole models, small ones, against what others make of them: on every core, as unit tests are.
const MODELS: &str = "decoder_families";
/// What else runs kernels or depends on the machine; one core is enough for what is above the kernels. The other files in `tests/`
/// read files, rewrite graphs and cut texts, in which processors do not differ.
const ABOVE: [&str; 6] = [
    "adapters",
    "allocations",
    "cli",
    "encoder_plans",
    "plan",
    "weights_cache",
];

/// Cross-builds all test programs and `furlong`.
pub fn build() -> Result<Outcome> {
    let builder = Board::load("cortex-a53")?.builder()?;
    programs(&builder)?;
    crate::build::furlong(&builder)?;
    Ok(Outcome::passed())
}

/// Kernels, engine and whole models on a core of ARMv8.0.
pub fn cortex_a53() -> Result<Outcome> {
    on("cortex-a53", |program| {
        program.is_unit_test || program.name == MODELS
    })
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

fn programs(builder: &Builder) -> Result<Vec<Program>> {
    let files = ABOVE.into_iter().chain([MODELS]);
    let files: Vec<String> = files.map(|file| format!("--test={file}")).collect();
    let mut args = vec!["--no-run", "--lib", "--bins"];
    args.extend(files.iter().map(String::as_str));
    let programs = builder.programs_of("test", &SCOPE, &args)?;
    Ok(programs
        .into_iter()
        .filter(|program| program.is_test)
        .collect())
}

fn on(board: &str, wanted: impl Fn(&Program) -> bool) -> Result<Outcome> {
    let board = Board::load(board)?;
    let programs: Vec<Program> = programs(&board.builder()?)?
        .into_iter()
        .filter(wanted)
        .collect();
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
