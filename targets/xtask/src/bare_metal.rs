//! The kernels on emulated boards without an operating system: `benches/bare-metal`, built and run there.

use crate::board::{Board, Runner};
use crate::shell::{self, say};
use crate::{packages, plugin, toolchain, workspace};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "furlong-bare-metal";

/// Instructions a multiply-accumulate (or an element) of CMSIS-NN 7.0.0 on the same shapes, one token, or sixteen where it says so:
/// commit 99f736a6 at -O3, counted under the same emulator; gcc 12.2 for the M4, clang 19 for the M55. Its weights of 4 bits have no
/// offsets; its results are 8 bits.
const PEER: [(&str, f64, f64); 9] = [
    ("linear/q8-block128/128x128/1", 2.27, 0.246),
    ("linear/q8-block128/128x512/1", 1.97, 0.179),
    ("linear/q8-block128/1024x256/1", 2.07, 0.198),
    ("linear/q4-block128/128x128/1", 5.26, 0.495),
    ("linear/q4-block128/128x512/1", 4.97, 0.346),
    ("linear/q4-block128/1024x256/1", 5.07, 0.392),
    ("linear/q8-block128/128x128/16", 1.94, 0.270),
    ("linear/q8-block128/128x512/16", 1.69, 0.196),
    ("softmax/512", 510.0, 78.0),
];

/// Whether kernels can be run and counted there.
pub fn takes(board: &Board) -> bool {
    board.bare_metal.is_some()
        && emulator(board).is_some_and(|(program, ..)| program == "qemu-system-arm")
}

/// Compares every kernel with its scalar twin there; gives what was checked, a line each.
///
/// # Errors
/// When a check failed, or nothing was checked.
pub fn check(board: &Board, program: &Path) -> Result<Vec<String>> {
    let text = shell::capture(&mut command(board, program, "check", None)?)?;
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let passed = |line: &String| line.starts_with("passed: ");
    match lines.iter().all(passed) && !lines.is_empty() {
        true => Ok(lines),
        false => bail!("{}: not all checks passed:\n{text}", board.id),
    }
}

/// Counts the instructions of the kernels there, and shows them beside CMSIS-NN's.
///
/// # Errors
/// When the program can't be built or run.
pub fn count(board: &Board, wanted: &dyn Fn(&str) -> bool) -> Result<BTreeMap<String, [f64; 2]>> {
    let program = build(board)?;
    let folder = workspace::target()?.join("bench").join(&board.id);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::write(folder.join("counter"), [0; 8])?;
    let text = shell::capture(&mut command(board, &program, "count", Some(&folder))?)?;
    let mut results = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<f64>().ok());
        let (name, count) = (words.next().unwrap_or_default(), number(words.next()));
        if let (Some(count), Some(units)) = (count, number(words.next()))
            && wanted(name)
        {
            show(board, name, count / units);
            results.insert(name.to_string(), [count, 0.0]);
        }
    }
    if text.lines().count() < 2 {
        bail!("{}: nothing was counted:\n{text}", board.id);
    }
    Ok(results)
}

/// One series as a line: instructions a unit, and the peer's.
fn show(board: &Board, name: &str, each: f64) {
    let peer = PEER.iter().find(|(series, ..)| *series == name);
    let peer = peer.map(|&(_, m4, m55)| match board.core.as_str() {
        "cortex-m55" => m55,
        _ => m4,
    });
    let beside = peer.map_or(String::new(), |peer| {
        format!("  CMSIS-NN {peer:.3}, {:.2} of it", each / peer)
    });
    say(format!("bench: {name:40} {each:7.3} a unit{beside}"));
}

/// Builds the program for a board; gives it.
///
/// # Errors
/// When the build fails.
pub fn build(board: &Board) -> Result<PathBuf> {
    let Some(bare_metal) = &board.bare_metal else {
        bail!("{}: has an operating system", board.id);
    };
    packages::ensure(&[packages::EMULATORS])?;
    let region = |name: &str, region: furlong_board_file::Region| {
        format!(
            "{name} : ORIGIN = {:#x}, LENGTH = {:#x}\n",
            region.origin, region.length
        )
    };
    let memory = format!(
        "MEMORY {{\n{}{}}}\n",
        region("FLASH", bare_metal.memory.flash),
        region("RAM", bare_metal.memory.ram)
    );
    let mut command = toolchain::bare_metal("build", &board.triple)?;
    command
        .args([
            "--manifest-path",
            "benches/bare-metal/Cargo.toml",
            "--quiet",
        ])
        .env("FURLONG_MEMORY", memory)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Ctarget-cpu={}", bare_metal.target_cpu),
        );
    shell::quiet(&mut command)?;
    toolchain::keep(&board.id, &board.triple, NAME)
}

/// The command that runs the program's task on the emulated board; with a folder, the emulator counts into the file `counter` there.
///
/// # Errors
/// When the board isn't emulated, or the plugin can't be built.
pub fn command(
    board: &Board,
    program: &Path,
    task: &str,
    counter: Option<&Path>,
) -> Result<Command> {
    let (emulator, machine, cpu) =
        emulator(board).with_context(|| format!("{}: isn't emulated", board.id))?;
    // Without a device of its own the program's text would go to the emulator's errors.
    let semihosting = format!("enable=on,target=native,chardev=console,arg={NAME},arg={task}");
    let mut command = shell::command(emulator, ["-machine", machine, "-cpu", cpu]);
    command
        .args(["-display", "none", "-monitor", "none", "-serial", "none"])
        .args(["-chardev", "stdio,id=console"])
        .args(["-semihosting-config", &semihosting])
        .arg("-kernel")
        .arg(program);
    if let Some(folder) = counter {
        let plugin = plugin::build()?;
        command
            .arg("-plugin")
            .arg(format!("{},counter=counter", plugin.display()))
            .current_dir(folder);
    }
    Ok(command)
}

fn emulator(board: &Board) -> Option<(&str, &str, &str)> {
    match &board.run {
        Runner::EmulatedMachine {
            emulator,
            machine,
            cpu,
        } => Some((emulator, machine, cpu)),
        _ => None,
    }
}
