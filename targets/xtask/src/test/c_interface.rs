//! The C interface: its header is what the source makes, and a firmware in C answers with the built-in model on an emulated Cortex-M4.
//!
//! Linked by itself the library is the executor and nothing else: so its size is checked here, and that nothing in it panics.

use super::host;
use super::report::Outcome;
use crate::board::Board;
use crate::flash::{self, Contents, Sizes};
use crate::{bare_metal, packages, shell, toolchain, workspace};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The board that the example is written for.
const BOARD: &str = "mps2-an386";

/// How C is compiled for it.
const CORE: [&str; 4] = [
    "-mcpu=cortex-m4",
    "-mthumb",
    "-mfloat-abi=hard",
    "-mfpu=fpv4-sp-d16",
];
/// What is built in, with a cache of 8 bits: what weights of 4 bits take, whose embedding has 8, and what the built-in model takes.
const FEATURES: [&str; 2] = ["kv-q8,q4,q8", "kv-q8,q8"];
/// What the executor may take of flash with either: check, steps, kernels, tokenizer, sampler.
const MOST_EXECUTOR_BYTES: u64 = 48 * 1024;
/// What a firmware calls.
const FUNCTIONS: [&str; 5] = [
    "furlong_arena_bytes",
    "furlong_ask",
    "furlong_ask_tokens",
    "furlong_piece",
    "furlong_step",
];
/// How the built-in model is planned for the example.
const SIZES: Sizes = Sizes {
    context: 64,
    kv: "q8",
    tile: 4,
};

/// Compares the header, builds library and example, runs it with the built-in model, which must answer, and with a damaged plan: it
/// must say so and stay alive to end by itself.
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
        .env("CARGO_TARGET_DIR", workspace::bare_metal_target()?);
    shell::quiet(&mut header)?;
    let mut all = Outcome::passed();

    let board = Board::load(BOARD)?;
    let mut library = PathBuf::new();
    for features in FEATURES {
        library = build_library(&board, features)?;
        let bytes = executor_bytes(&library)?;
        ensure!(
            bytes <= MOST_EXECUTOR_BYTES,
            "the executor ({features}) takes {bytes} bytes of flash, {MOST_EXECUTOR_BYTES} are allowed"
        );
        all.notes.push(format!(
            "executor on a Cortex-M4 ({features}): {:.1} KiB of flash",
            bytes as f64 / 1024.0
        ));
        all.add(Outcome::passed());
    }

    // The last library is the built-in model's.
    let furlong = host::furlong()?;
    let plan = flash::plan(&furlong, &board, None, SIZES, "built-in-c")?;
    let program = example(&folder, &library, &plan.file)?;
    let said = shell::capture(&mut bare_metal::command(&board, &program, "answer", None)?)?;
    ensure!(
        said.contains("\"heating.off\""),
        "the built-in model, asked in C: {said}"
    );
    all.add(Outcome::passed());

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

/// Builds the library for a board; gives it.
fn build_library(board: &Board, features: &str) -> Result<PathBuf> {
    let mut command = toolchain::bare_metal("build", &board.triple)?;
    command
        .args(["--manifest-path", "runtime/c/Cargo.toml", "--quiet"])
        .args(["--no-default-features", "--features", features])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Ctarget-cpu={}", board.core),
        );
    shell::quiet(&mut command)?;
    toolchain::keep(&board.id, &board.triple, "libfurlong_c.a")
}

/// What the executor takes of flash; fails where it has a way to a panic.
fn executor_bytes(library: &Path) -> Result<u64> {
    let contents = Contents::of(&executor(library)?)?;
    ensure!(
        !contents.has("panicking"),
        "a way to a panic is linked in; `objdump -dC` on target/firmware/executor.elf shows who calls it"
    );
    let bytes = [".text", ".rodata", ".ARM.exidx"].map(|part| contents.bytes(part));
    Ok(bytes.iter().sum())
}

/// The library's functions, linked without a program.
fn executor(library: &Path) -> Result<PathBuf> {
    let program = workspace::target()?.join("firmware/executor.elf");
    let mut gcc = Command::new("arm-none-eabi-gcc");
    gcc.args(CORE)
        .args(["-nostdlib", "-Wl,--gc-sections", "-Wl,-e,furlong_open"])
        .args(FUNCTIONS.map(|function| format!("-Wl,-u,{function}")))
        .arg("-Wl,-z,noexecstack")
        .arg(library)
        .arg("-o")
        .arg(&program);
    shell::quiet(&mut gcc)?;
    Ok(program)
}

/// Builds the example with a plan in its flash.
fn example(folder: &Path, library: &Path, plan: &Path) -> Result<PathBuf> {
    let program = workspace::target()?.join("firmware/answer-in-c.elf");
    let mut gcc = Command::new("arm-none-eabi-gcc");
    gcc.args(CORE)
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
