//! What the built-in model costs on a board without an operating system: its firmware answers a command there, and counts.

use crate::board::{Board, Builder, Runner};
use crate::flash::{self, Build, Sizes};
use crate::{build, packages, shell};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Results begin with this.
const NAME: &str = "model/home-commands-q8";
/// What it is asked.
const PROMPT: &str = "turn the heating off in the study";
const SIZES: Sizes = Sizes {
    context: 64,
    kv: "q8",
    tile: 4,
};

/// Instructions of the built-in model, medians with no deviation, by name: of a token of the prompt (`prompt`), of the answer (`decode`),
/// and of each kind of op in the whole answer (`op/…`).
///
/// # Errors
/// When the board isn't emulated, the model doesn't fit it, or its firmware doesn't answer.
pub fn count(board: &Board) -> Result<BTreeMap<String, [f64; 2]>> {
    if !matches!(board.run, Runner::EmulatedMachine { .. }) {
        bail!(
            "{}: only emulated boards can be asked by a script; `cargo xtask flash --board {}` shows the same counts in its log",
            board.name,
            board.id
        );
    }
    packages::ensure(&[packages::EMULATORS])?;
    let furlong = build::furlong(&Builder::Host)?;
    let plan = flash::plan(&furlong, board, None, SIZES, &format!("{}-bench", board.id))?;
    let firmware = Build {
        plan: Some(&plan.file),
        features: Some(&plan.features),
        ..Build::default()
    };
    let program = flash::program(board, "furlong-firmware", &firmware)?;
    let mut watch = flash::watch_emulated(board, &program, Some(PROMPT))?;
    let logs = logs(&mut watch)?;
    let results = results(&logs);
    ensure!(
        results.len() > 2,
        "{}: the firmware counted nothing:\n{logs}",
        board.id
    );
    Ok(results)
}

fn logs(watch: &mut Command) -> Result<String> {
    let text = shell::show(watch);
    let output = watch.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("starting: {text}"))?;
    let logs = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "failed ({}): {text}\n{logs}",
        output.status
    );
    Ok(logs)
}

/// Reads what targets/firmware/src/serve.rs and profile.rs log:
/// `8 tokens read, 900 instructions each; 6 answered, 800 each; …` and `32 % 5000 instructions: gated linear`.
fn results(logs: &str) -> BTreeMap<String, [f64; 2]> {
    let mut results = BTreeMap::new();
    let mut add = |name: &str, count: Option<f64>| {
        if let Some(count) = count {
            results.insert(format!("{NAME}/{name}"), [count, 0.0]);
        }
    };
    let number = |word: Option<&str>| word?.parse::<f64>().ok();
    for line in logs.lines().filter_map(|line| line.strip_prefix("info")) {
        if let Some((_, each)) = line.split_once("tokens read, ") {
            let answered = each.split_once("answered, ").map(|(_, each)| each);
            add("prompt", number(each.split(' ').next()));
            add(
                "decode",
                answered.and_then(|each| number(each.split(' ').next())),
            );
        } else if let Some((count, op)) = line.split_once(" instructions: ") {
            let op = op.trim().replace(' ', "-");
            add(&format!("op/{op}"), number(count.rsplit(' ').next()));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::results;

    #[test]
    fn counts_are_read_from_the_log() {
        let logs = "info  MPS2: plan of 9 bytes, checked in 7 instructions\n\
             info  8 tokens read, 900 instructions each; 6 answered, 800 each; 70 to encode; ended by Stop\n\
             info  stack 5 of 6 bytes at most\n\
             info  32 % 5000 instructions: gated linear\n";
        let found: Vec<(String, [f64; 2])> = results(logs).into_iter().collect();
        let wanted = [
            ("decode", 800.0),
            ("op/gated-linear", 5000.0),
            ("prompt", 900.0),
        ]
        .map(|(name, count)| (format!("model/home-commands-q8/{name}"), [count, 0.0]));
        assert_eq!(found, wanted);
    }
}
