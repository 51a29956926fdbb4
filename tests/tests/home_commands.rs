//! The model that is built into `furlong` does its job, on phrasings that it was never trained on.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use furlong::built_in::HOME_COMMANDS;
use furlong_fine_tune::home_commands::{Command, Commands, HAND_WRITTEN, Split};
use furlong_runtime::text::{GenerateOptions, Generator, Tokenizer};
use furlong_runtime::{LoadOptions, Model, ModelFiles};

/// How many of `commands` the built-in model answers exactly.
fn right(commands: &[Command]) -> usize {
    let files = ModelFiles::Embedded(HOME_COMMANDS);
    let options = LoadOptions {
        threads: NonZeroUsize::new(1),
        ..LoadOptions::default()
    };
    let model = Model::load_files(&files, &options).unwrap();
    let tokenizer = Tokenizer::load_files(&files).unwrap();
    let mut generator = Generator::new(model.session().unwrap(), &tokenizer);
    let never = AtomicBool::new(false);
    let mut right = 0;
    for Command { prompt, completion } in commands {
        let prompt = tokenizer.encode(prompt, true).unwrap();
        let answer = generator
            .generate(&prompt, &GenerateOptions::default(), &never, |_| {
                ControlFlow::Continue(())
            })
            .unwrap();
        right += usize::from(answer.text == *completion);
    }
    right
}

/// The whole of docs/home-commands.md is measured on more; a sample keeps this test to seconds.
#[test]
fn held_out_phrasings_are_understood() {
    for (split, count, least) in [(Split::Test, 400, 380), (Split::Blind, 200, 158)] {
        let commands: Vec<Command> = Commands::new(split, 4).take(count).collect();
        let right = right(&commands);
        assert!(
            right >= least,
            "{}: {right} of {count} are right",
            split.name()
        );
    }
}

#[test]
fn commands_written_by_hand_are_understood_as_well_as_the_docs_say() {
    let commands: Vec<Command> = HAND_WRITTEN
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(commands.len(), 200);
    let right = right(&commands);
    assert!(right >= 192, "{right} of {} are right", commands.len());
}
