//! Spoken home commands and what they mean: the data that the built-in model learns from.
//!
//! A grammar of phrasings (`grammar`) is expanded at random, its slots are filled (`slots`) with what people say for
//! rooms, levels, times and so on, and the result is roughened (`noise`) the way speech recognition and haste do it.
//! Each example is a command and one line of JSON, as docs/home-commands.md lists them.
//!
//! The splits have a grammar each; training has two, plain phrasings to begin with and varied ones to end with. What another split's grammar could have said as well is thrown away, so a command of
//! the test split is one that the training split never contains, however long it is made.

mod answer;
mod grammar;
mod noise;
mod numbers;
mod slots;
#[cfg(test)]
mod tests;
pub mod tokenizer;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::comparison::Random;
use answer::Answer;
use grammar::{Grammar, Piece};

/// Two hundred commands as people wrote them down, and their meaning: JSON lines. Nobody's grammar, never trained on.
pub const HAND_WRITTEN: &str = include_str!("hand-written.jsonl");

/// Commands in a row that are thrown away before a split is taken for exhausted.
const MAX_REJECTED: usize = 10_000;

/// What examples are for. No phrasing of training is in those to measure by, and none of these in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose settings by.
    Valid,
    /// To measure by.
    Test,
    /// To go on learning from: the phrasings of `Train` and many more.
    Varied,
}

impl Split {
    /// All of them.
    pub const ALL: [Split; 4] = [Split::Train, Split::Varied, Split::Valid, Split::Test];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Varied => "varied",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Split::Train => include_str!("grammar/train.txt"),
            Split::Varied => include_str!("grammar/varied.txt"),
            Split::Valid => include_str!("grammar/valid.txt"),
            Split::Test => include_str!("grammar/test.txt"),
        }
    }
}

/// A command and its meaning, as a data file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What is said.
    pub prompt: String,
    /// One line of JSON.
    pub completion: String,
}

/// An endless, repeatable source of commands of one split. No prompt comes twice.
#[derive(Debug)]
pub struct Commands {
    grammar: Grammar,
    /// The grammars of the other splits whose commands are not given out.
    others: Vec<Grammar>,
    random: Random,
    seen: HashSet<String>,
}

impl Commands {
    /// The commands of `split` that `seed` leads to.
    pub fn new(split: Split, seed: u64) -> Commands {
        // Training has the first claim on a phrasing, the test the last: only so is every claim decided in one look.
        let others = match split {
            Split::Train | Split::Varied => &[][..],
            Split::Valid => &[Split::Train, Split::Varied][..],
            Split::Test => &[Split::Train, Split::Varied, Split::Valid],
        };
        Commands {
            grammar: Grammar::of(split),
            others: others.iter().map(|&split| Grammar::of(split)).collect(),
            random: Random::new(seed, split as u64),
            seen: HashSet::new(),
        }
    }

    /// A command whose phrasing is this split's alone, not yet roughened.
    fn phrase(&mut self) -> (Vec<Piece>, String, Answer) {
        loop {
            let line = self.grammar.line(&mut self.random);
            let pieces = line.phrase(&mut self.random);
            if self.others.iter().any(|other| other.derives(&pieces)) {
                continue;
            }
            let mut answer = Answer::new(&line.intent);
            for (key, value) in &line.fixed {
                answer.set(key, value.clone());
            }
            let spoken = slots::fill(&pieces, &mut answer, &mut self.random);
            let spoken = noise::with_fillers(&spoken, line, &self.grammar, &mut self.random);
            return (pieces, spoken, answer);
        }
    }
}

impl Iterator for Commands {
    type Item = Command;

    /// The next command; `None` once new ones can't be found any more.
    fn next(&mut self) -> Option<Command> {
        for _ in 0..MAX_REJECTED {
            let (_, spoken, answer) = self.phrase();
            let prompt = noise::roughen(&spoken, &mut self.random);
            if self.seen.insert(prompt.clone()) {
                return Some(Command {
                    prompt,
                    completion: answer.json(),
                });
            }
        }
        None
    }
}
