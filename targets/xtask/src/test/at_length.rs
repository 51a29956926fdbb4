//! What takes emulated boards minutes, and so isn't part of every run: real commands, a real language model, damage at every byte.

use super::firmware::{
    LARGE_BOARD, REFERENCE, TIGHT, TIGHT_BOARD, expected, export, one, runs, same_tokens,
};
use super::host;
use super::report::Outcome;
use crate::board::{Board, Runner};
use crate::flash::{self, Sizes};
use crate::models::{self, Base};
use crate::{packages, workspace};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// What is asked of the built-in model at length, and what it must answer: written by hand, never trained on.
const COMMANDS: &str = "fine-tune/src/home_commands/hand-written.jsonl";
/// What SmolLM2 is asked, and how it is planned.
const QUESTION: &str = "What is the capital of France?";
const QUESTION_SIZES: Sizes = Sizes {
    context: 64,
    kv: "f16",
    tile: 8,
};
/// Room for the longest of the commands and its answer.
const LONG: Sizes = Sizes {
    context: 96,
    kv: "q8",
    tile: 4,
};

/// The built-in model's answers to 200 commands on every emulated board that has room for it, SmolLM2's to a question on the largest
/// one, and a plan that is cut and flipped at every byte.
pub fn run() -> Result<Outcome> {
    packages::ensure(&[packages::EMULATORS])?;
    let furlong = host::furlong()?;
    let commands = fs::read_to_string(workspace::root()?.join(COMMANDS))
        .with_context(|| format!("reading {COMMANDS}"))?;
    let commands: Vec<HandWritten> = commands
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let prompts: Vec<String> = commands.iter().map(|it| it.prompt.clone()).collect();
    let expected = expected(&furlong, None, LONG, &prompts)?;
    let mut all = Outcome::default();
    for id in Board::ids()? {
        let board = Board::load(&id)?;
        let emulated = matches!(board.run, Runner::EmulatedMachine { .. });
        if id == TIGHT_BOARD || id == LARGE_BOARD || !emulated {
            continue;
        }
        let answered = || {
            let plan = flash::plan(&furlong, &board, None, LONG, &format!("{id}-long"))?;
            let mut command = one(&board, &plan)?.context("it isn't emulated")?;
            let answers = same_tokens(&mut command, &prompts, &expected)?;
            let right = commands.iter().zip(answers.lines());
            let right = right.filter(|(command, answer)| command.completion == *answer);
            anyhow::Ok((right.count(), board.name.clone()))
        };
        match answered().with_context(|| id.clone()) {
            Ok((right, name)) => {
                all.add(Outcome::passed());
                all.notes.push(format!(
                    "{name}: {} commands with the tokens of this machine, {right} of them right",
                    commands.len()
                ));
            }
            Err(error) => all.add(Outcome::broken(&error)),
        }
    }
    for check in [smollm2, damage_everywhere] {
        match check(&furlong) {
            Ok(outcome) => all.add(outcome),
            Err(error) => all.add(Outcome::broken(&error)),
        }
    }
    Ok(all)
}

/// SmolLM2 on a board with room for its plan of a hundred megabytes.
fn smollm2(furlong: &Path) -> Result<Outcome> {
    let model = models::export(&host::exporter()?, Base::SmolLm2, "q4")?;
    let board = Board::load(LARGE_BOARD)?;
    let prompts = [QUESTION.to_owned()];
    let expected = expected(furlong, Some(&model), QUESTION_SIZES, &prompts)?;
    let plan = flash::plan(furlong, &board, Some(&model), QUESTION_SIZES, &board.id)?;
    let mut command = one(&board, &plan)?.context("it isn't emulated")?;
    let answer = same_tokens(&mut command, &prompts, &expected)?;
    let mut outcome = Outcome::passed();
    outcome.notes.push(format!(
        "{}: SmolLM2-135M answers {QUESTION:?} with the {} tokens of this machine: {}",
        board.name,
        expected.len(),
        answer.trim()
    ));
    Ok(outcome)
}

/// A plan that is cut and flipped at every byte ends nothing on the board.
fn damage_everywhere(furlong: &Path) -> Result<Outcome> {
    let board = Board::load(REFERENCE)?;
    let model = export("q8")?;
    let plan = flash::plan(furlong, &board, Some(&model), TIGHT, "damage-test")?;
    let every = "every byte\n";
    runs(&board, &plan, "damaged_plans", every, "\"survived\"")
}

/// A line of [`COMMANDS`].
#[derive(Deserialize)]
struct HandWritten {
    prompt: String,
    completion: String,
}
