//! The firmware on every board without an operating system: built for all of them, run on those that are emulated.

use super::report::Outcome;
use crate::board::{Board, Runner};
use crate::flash::{self, Build};
use crate::{packages, shell};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::{Command, Stdio};

/// The board whose build is also searched for warnings.
const REFERENCE: &str = "mps2-an386";

/// Builds for every board; runs what can be run.
pub fn boards() -> Result<Outcome> {
    packages::ensure(&[packages::EMULATORS])?;
    flash::lint(&Board::load(REFERENCE)?)?;
    let mut all = Outcome::passed();
    for id in Board::ids()? {
        let board = Board::load(&id)?;
        if board.bare_metal.is_some() {
            match one(&board).with_context(|| id.clone()) {
                Ok(()) => all.add(Outcome::passed()),
                Err(error) => all.add(Outcome::broken(&error)),
            }
        }
    }
    Ok(all)
}

fn one(board: &Board) -> Result<()> {
    let program = flash::program(board, &Build::default())?;
    if !matches!(board.run, Runner::EmulatedMachine { .. }) {
        return Ok(());
    }
    let (answers, logs) = talk(
        &mut flash::watch_emulated(board, &program, None)?,
        "first\nsecond\n",
    )?;
    let answers: Vec<&str> = answers.lines().collect();
    if answers.len() != 2 || answers.iter().any(|answer| !answer.contains("error")) {
        bail!("without a plan each line is answered by an error, not by {answers:?}");
    }
    if !logs.contains(&board.name) {
        bail!("the logs don't name the board: {logs}");
    }
    Ok(())
}

/// Runs a board with lines as its input; gives its answers and its logs.
fn talk(command: &mut Command, lines: &str) -> Result<(String, String)> {
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
