//! The C interface: its header is what the source makes, and a firmware in C links and runs on an emulated Cortex-M4.

use super::report::Outcome;
use crate::board::Board;
use crate::{bare_metal, packages, shell, toolchain, workspace};
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The board that the example is written for.
const BOARD: &str = "mps2-an386";

/// Compares the header, builds library and example, and runs it with a damaged plan: it must say so and stay alive to end by
/// itself.
pub fn run() -> Result<Outcome> {
    packages::ensure(&[packages::CORTEX_M_C, packages::EMULATORS])?;
    let folder = workspace::root()?.join("runtime/c");
    let mut header = Command::new("cargo");
    header
        .args([
            "run",
            "--locked",
            "--quiet",
            "-p",
            "furlong-header",
            "--",
            "--check",
        ])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", workspace::target()?);
    shell::quiet(&mut header)?;
    let mut all = Outcome::passed();

    let board = Board::load(BOARD)?;
    let mut library = toolchain::bare_metal("build", &board.triple)?;
    library
        .args(["--manifest-path", "runtime/c/Cargo.toml", "--quiet"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Ctarget-cpu={}", board.core),
        );
    shell::quiet(&mut library)?;
    let library = toolchain::keep(&board.id, &board.triple, "libfurlong_c.a")?;

    let plan = workspace::target()?.join("firmware/damaged.plan");
    fs::write(&plan, [0; 256])?;
    let program = example(&folder, &library, &plan)?;
    let output = bare_metal::command(&board, &program, "answer", None)?.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.code() != Some(1) || !said.contains("no plan") {
        bail!("a damaged plan: {}, {said}", output.status);
    }
    all.add(Outcome::passed());
    Ok(all)
}

/// Builds the example with a plan in its flash.
fn example(folder: &Path, library: &Path, plan: &Path) -> Result<std::path::PathBuf> {
    let program = workspace::target()?.join("firmware/answer-in-c.elf");
    let mut gcc = Command::new("arm-none-eabi-gcc");
    gcc.args([
        "-mcpu=cortex-m4",
        "-mthumb",
        "-mfloat-abi=hard",
        "-mfpu=fpv4-sp-d16",
    ])
    .args([
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffreestanding",
        "-nostdlib",
    ])
    .args(["-Iinclude", "-Texample/mps2-an386.ld", "-Wl,--gc-sections"])
    // Our assembler says nothing of its stack.
    .arg("-Wl,-z,noexecstack")
    .arg(format!("-DPLAN=\"{}\"", plan.display()))
    .arg("-DPROMPT=\"turn the heating off in the study\"")
    .arg("example/answer.c")
    .arg(library)
    .arg("-o")
    .arg(&program)
    .current_dir(folder);
    shell::quiet(&mut gcc)?;
    Ok(program)
}
