//! The firmware on every board without an operating system: built for all of them, run on those that are emulated, where it must give
//! the tokens that the runtime gives on this machine; its size; and plans that are damaged.
//!
//! The model is tests/firmware/tiny, which answers nonsense but fits everywhere. What takes minutes is a step of its own:
//! [`at_length`](super::at_length).

use super::host;
use super::report::Outcome;
use crate::board::{Board, Runner};
use crate::flash::{self, Build, Contents, Planned, Sizes};
use crate::{fetch, models, packages, shell, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// The board that is also searched for warnings, panics and size, and on which plans are damaged.
pub(super) const REFERENCE: &str = "mps2-an386";
/// How the model's weights are stored, and the boards that run it; 4 bits on one of each kind of kernel.
const WEIGHTS: [(&str, Option<&[&str]>); 2] = [
    ("q8", None),
    ("q4", Some(&["mps2-an386", "mps3-an547", "virt-aarch64"])),
];
/// How a plan is made for a board with plenty of RAM, and for one with 16 KiB: tokens of context, cache, tile.
const ROOMY: Sizes = Sizes {
    context: 24,
    kv: "f16",
    tile: 4,
};
pub(super) const TIGHT: Sizes = Sizes {
    context: 12,
    kv: "q8",
    tile: 1,
};
/// How the built-in model is planned, what it is asked, and what it must answer.
const BUILT_IN: Sizes = Sizes {
    context: 64,
    kv: "q8",
    tile: 4,
};
const COMMAND: (&str, &str) = ("turn the heating off in the study", "\"heating.off\"");
/// What the built-in model may take of a Cortex-M4's RAM: arena, stack and variables.
const MOST_RAM_BYTES: u64 = 96 * 1024;
/// Code and constants of its firmware without the plan.
const MOST_IMAGE_BYTES: u64 = 56 * 1024;
/// The board that has little, and one with room for SmolLM2, which is `virt-aarch64` but for its memory.
pub(super) const TIGHT_BOARD: &str = "microbit";
pub(super) const LARGE_BOARD: &str = "virt-aarch64-1g";
/// What is asked of the small model: capitals, letters beyond ASCII, and three words of its tokenizer in every order, more than 200
/// lines.
fn prompts() -> Vec<String> {
    const WORDS: [&str; 6] = ["turn", "on", "off", "the", "kitchen", "light"];
    let others = ["Turn OFF the kitchen light", "light", "größer?"];
    let mut prompts: Vec<String> = others.map(String::from).into();
    for first in WORDS {
        for second in WORDS {
            prompts.extend(WORDS.map(|third| format!("{first} {second} {third}")));
        }
    }
    prompts
}

/// Runs all that.
pub fn boards() -> Result<Outcome> {
    packages::ensure(&[packages::EMULATORS])?;
    flash::lint(&Board::load(REFERENCE)?)?;
    let furlong = host::furlong()?;
    let prompts = prompts();
    let mut all = Outcome::passed();
    let mut add = |checked: Result<Outcome>| match checked {
        Ok(outcome) => all.add(outcome),
        Err(error) => all.add(Outcome::broken(&error)),
    };
    // A board runs while the next one's firmware is built.
    let mut running = Vec::new();
    for (weights, chosen) in WEIGHTS {
        let model = export(weights)?;
        let roomy = expected(&furlong, Some(&model), ROOMY, &prompts)?;
        let tight = expected(&furlong, Some(&model), TIGHT, &prompts)?;
        for id in Board::ids()? {
            let board = Board::load(&id)?;
            let left_out = chosen.is_some_and(|chosen| !chosen.contains(&&*id));
            if board.bare_metal.is_none() || id == LARGE_BOARD || left_out {
                continue;
            }
            let (sizes, expected) = match id == TIGHT_BOARD {
                true => (TIGHT, &tight),
                false => (ROOMY, &roomy),
            };
            let name = format!("{id}-test");
            let plan = flash::plan(&furlong, &board, Some(&model), sizes, &name)?;
            let what = format!("{id}, {weights}");
            match one(&board, &plan).with_context(|| what.clone()) {
                Ok(None) => add(Ok(Outcome::passed())),
                Ok(Some(mut command)) => {
                    let (prompts, expected) = (prompts.clone(), expected.clone());
                    running.push(thread::spawn(move || {
                        same_tokens(&mut command, &prompts, &expected).context(what)?;
                        Ok(Outcome::passed())
                    }));
                }
                Err(error) => add(Err(error)),
            }
            if id == REFERENCE && chosen.is_none() {
                for check in [built_in, damage, example] {
                    add(check(&board, &furlong, &plan).with_context(|| id.clone()));
                }
            }
        }
    }
    for board in running {
        add(board
            .join()
            .unwrap_or_else(|_| bail!("the thread of a board has panicked")));
    }
    Ok(all)
}

/// The small model as an ONNX folder.
pub(super) fn export(weights: &str) -> Result<PathBuf> {
    let exporter = host::exporter()?;
    let folder = models::folder()?.join(format!("tiny-{weights}"));
    let stamp = folder.with_extension("made-by.txt");
    let made_by = fetch::digest(&exporter)?;
    if fs::read_to_string(&stamp).is_ok_and(|text| text == made_by) {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(models::folder()?)?;
    let checkpoint = workspace::root()?.join("tests/firmware/tiny");
    let mut command = Command::new(&exporter);
    command.args(["export", "--weights", weights]);
    command.arg("--base").arg(checkpoint);
    shell::quiet(command.arg("--out").arg(&folder))?;
    fs::write(&stamp, made_by).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(folder)
}

#[derive(Deserialize)]
struct Answer {
    tokens: Vec<u32>,
}

/// The tokens that the runtime answers the prompts with on this machine; the built-in model's unless another is named.
pub(super) fn expected(
    furlong: &Path,
    model: Option<&Path>,
    sizes: Sizes,
    prompts: &[String],
) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for prompt in prompts {
        let mut command = Command::new(furlong);
        command.arg("run");
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        command.args(["--context", &sizes.context.to_string(), "--kv", sizes.kv]);
        command.args(["--lookup", "0", "--json", prompt]);
        let answer: Answer = serde_json::from_str(&shell::capture(&mut command)?)?;
        tokens.extend(answer.tokens);
    }
    ensure!(
        tokens.len() > 2 * prompts.len(),
        "the model answers too little to compare"
    );
    Ok(tokens)
}

/// The firmware with a plan and no more than that needs.
fn build<'b>(plan: &'b Planned, log: &'b str) -> Build<'b> {
    Build {
        plan: Some(&plan.file),
        features: Some(&plan.features),
        log,
        ..Build::default()
    }
}

/// What the compiler could show to be unreachable is not linked: were there a way to a panic, its handler would be there.
fn nothing_that_panics_or_allocates(contents: &Contents) -> Result<()> {
    let panics = ["panicking", "rust_begin_unwind"];
    let allocators = ["__rust_alloc", "__rdl_alloc", "__rg_alloc"];
    for unwanted in panics.into_iter().chain(allocators) {
        ensure!(
            !contents.has(unwanted),
            "{unwanted} is linked in; `objdump -dC --line-numbers` on the program shows who calls it"
        );
    }
    Ok(())
}

/// Builds for a board and looks for panics; gives the command that runs it if it is emulated.
pub(super) fn one(board: &Board, plan: &Planned) -> Result<Option<Command>> {
    let program = flash::program(board, "furlong-firmware", &build(plan, "debug"))?;
    nothing_that_panics_or_allocates(&Contents::of(&program)?)?;
    match board.run {
        Runner::EmulatedMachine { .. } => Ok(Some(flash::watch_emulated(board, &program, None)?)),
        _ => Ok(None),
    }
}

/// Asks a board that runs at log level `debug`, whose tokens must be `expected`; gives its answers, a line each.
pub(super) fn same_tokens(
    command: &mut Command,
    prompts: &[String],
    expected: &[u32],
) -> Result<String> {
    let lines: String = prompts.iter().map(|prompt| format!("{prompt}\n")).collect();
    let (answers, logs) = talk(command, &lines)?;
    let tokens: Vec<u32> = logs
        .lines()
        .filter_map(|line| {
            line.strip_prefix("debug token ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    if tokens != expected {
        let same = tokens
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        bail!(
            "{} tokens of {} are those of the runtime; then {:?}, not {:?}; the board said\n{logs}",
            same,
            expected.len(),
            tokens.get(same),
            expected.get(same)
        );
    }
    Ok(answers)
}

/// The built-in model answers, within its bounds of flash and RAM.
fn built_in(board: &Board, furlong: &Path, _: &Planned) -> Result<Outcome> {
    let plan = flash::plan(furlong, board, None, BUILT_IN, "built-in-test")?;
    let program = flash::program(board, "furlong-firmware", &build(&plan, "info"))?;
    let contents = Contents::of(&program)?;
    nothing_that_panics_or_allocates(&contents)?;
    let image =
        contents.bytes(".text") + contents.bytes(".rodata") + contents.bytes(".vector_table");
    ensure!(
        image <= MOST_IMAGE_BYTES,
        "the firmware takes {image} bytes beside the plan, {MOST_IMAGE_BYTES} are allowed"
    );
    let (prompt, wanted) = COMMAND;
    let (answer, logs) = talk(
        &mut flash::watch_emulated(board, &program, Some(prompt))?,
        "",
    )?;
    ensure!(answer.contains(wanted), "{prompt}: {answer}\n{logs}");
    let stack: u64 = logs
        .lines()
        .find_map(|line| {
            line.strip_prefix("info  stack ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("the board says nothing of its stack:\n{logs}"))?;
    let variables = contents.bytes(".data") + contents.bytes(".bss") + contents.bytes(".uninit");
    let ram = plan.arena_bytes + stack + variables;
    ensure!(
        ram <= MOST_RAM_BYTES,
        "the built-in model takes {ram} bytes of RAM, {MOST_RAM_BYTES} are allowed"
    );
    let mut outcome = Outcome::passed();
    outcome.notes.push(format!(
        "built-in model on a Cortex-M4: firmware {:.1} KiB of flash beside the plan; RAM {:.1} KiB (arena {:.1}, stack {:.1})",
        kib(image),
        kib(ram),
        kib(plan.arena_bytes),
        kib(stack)
    ));
    Ok(outcome)
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// A plan cut short and flipped at many places ends nothing.
fn damage(board: &Board, _: &Path, plan: &Planned) -> Result<Outcome> {
    runs(board, plan, "damaged_plans", "", "\"survived\"")
}

/// The example works.
fn example(board: &Board, _: &Path, plan: &Planned) -> Result<Outcome> {
    runs(board, plan, "existing_firmware", "", "")
}

pub(super) fn runs(
    board: &Board,
    plan: &Planned,
    name: &str,
    input: &str,
    wanted: &str,
) -> Result<Outcome> {
    let program = flash::program(board, name, &build(plan, "info"))?;
    let (answers, logs) = talk(&mut flash::watch_emulated(board, &program, None)?, input)?;
    ensure!(
        answers.contains(wanted),
        "{name} answered {answers:?}; {logs}"
    );
    Ok(Outcome::passed())
}

/// Runs a board with lines as its input; gives its answers and its logs.
pub(super) fn talk(command: &mut Command, lines: &str) -> Result<(String, String)> {
    let text = shell::show(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting: {text}"))?;
    let mut input = child.stdin.take().context("its input is a pipe")?;
    input.write_all(lines.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    let logs = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("failed ({}): {text}\n{answers}\n{logs}", output.status);
    }
    Ok((answers, logs))
}
