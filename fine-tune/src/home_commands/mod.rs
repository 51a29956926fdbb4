//! Spoken home commands and what they mean: the data that the built-in model learns from.
//!
//! A grammar of phrasings (`grammar`) is expanded at random, its slots are filled (`slots`) with what people say for
//! rooms, levels, times and so on, and the result is roughened (`noise`) the way speech recognition and haste do it.
//! Each example is a command and one line of JSON, as docs/home-commands.md lists them.
//!
//! Three grammars are drawn from to learn, and what they say is dealt out by phrasing: the digest of a phrase, its slots still open,
//! decides whether it is for training, for validation or for the test, so what is measured on is never learned from, however long training
//! is made. A fourth grammar, written without a look at these, is only measured on.

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
use sha2::{Digest, Sha256};

use crate::comparison::Random;
use answer::Answer;
use grammar::{Grammar, Piece, Recogniser};

/// Two hundred commands as people wrote them down, and their meaning: JSON lines. Nobody's grammar, never trained on.
pub const HAND_WRITTEN: &str = include_str!("hand-written.jsonl");

/// Commands in a row that are thrown away before a split is taken for exhausted.
const MAX_REJECTED: usize = 10_000;

/// What examples are for. No phrasing is in two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose settings by: phrasings that training never shows.
    Valid,
    /// To measure by: phrasings that neither training nor validation shows.
    Test,
    /// To measure by: the phrasings of a grammar of its own, without those that a grammar of the others can say.
    Blind,
}

/// The grammars that training, validation and test share, and how often of a hundred times each is drawn from.
const LEARNT: [(usize, &str, &str); 3] = [
    (30, "plain", include_str!("grammar/plain.txt")),
    (60, "varied", include_str!("grammar/varied.txt")),
    (10, "more", include_str!("grammar/more.txt")),
];
const BLIND: (usize, &str, &str) = (100, "blind", include_str!("grammar/blind.txt"));

impl Split {
    /// All of them.
    pub const ALL: [Split; 4] = [Split::Train, Split::Valid, Split::Test, Split::Blind];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
            Split::Test => "test",
            Split::Blind => "blind",
        }
    }

    /// The grammars that it draws from, and how often.
    fn grammars(self) -> Vec<(usize, Grammar)> {
        let sources = match self {
            Split::Train | Split::Valid | Split::Test => &LEARNT[..],
            Split::Blind => std::slice::from_ref(&BLIND),
        };
        let read = |&(share, name, text): &(usize, &str, &str)| match Grammar::parse(text) {
            Ok(grammar) => (share, grammar),
            // A test reads all of them.
            Err(reason) => panic!("grammar/{name}.txt: {reason}"),
        };
        sources.iter().map(read).collect()
    }

    fn recognisers(self) -> Vec<Recogniser> {
        let grammars = self.grammars().into_iter();
        grammars.map(|(_, it)| Recogniser::new(it)).collect()
    }

    /// Whose a phrase of the shared grammars is: of a hundred five are for validation and five for the test.
    fn of(phrase: &[Piece]) -> Split {
        let mut digest = Sha256::new();
        for piece in phrase {
            // A word has no brace, so the text says which is which.
            let (open, text, close) = match piece {
                Piece::Word(word) => ("", word, " "),
                Piece::Slot(slot) => ("{", slot, "} "),
            };
            digest.update([open, text, close].concat());
        }
        match digest.finalize()[0] % 20 {
            0 => Split::Valid,
            1 => Split::Test,
            _ => Split::Train,
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
    split: Split,
    /// What is drawn from, and how often of a hundred times.
    grammars: Vec<(usize, Grammar)>,
    /// Know the phrases that are not given out.
    others: Vec<Recogniser>,
    random: Random,
    /// What was said already, without capitals and full stops.
    seen: HashSet<String>,
}

impl Commands {
    /// The commands of `split` that `seed` leads to.
    pub fn new(split: Split, seed: u64) -> Commands {
        Commands {
            split,
            grammars: split.grammars(),
            others: match split {
                Split::Train | Split::Valid | Split::Test => Vec::new(),
                Split::Blind => Split::Train.recognisers(),
            },
            random: Random::new(seed, split as u64),
            seen: HashSet::new(),
        }
    }

    /// Never says one of `texts`: two phrasings with their slots filled, or one with a mistake in it, can come to the same words.
    #[must_use]
    pub fn without<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Commands {
        self.seen.extend(texts.into_iter().map(bare));
        self
    }

    /// A command whose phrasing is this split's alone, not yet roughened.
    fn phrase(&mut self) -> (Vec<Piece>, String, Answer) {
        loop {
            let mut drawn = self.random.below(100);
            let grammar = self.grammars.iter().find_map(|(share, grammar)| {
                let here = drawn < *share;
                drawn = drawn.saturating_sub(*share);
                here.then_some(grammar)
            });
            let Some(grammar) = grammar else { continue };
            let line = grammar.line(&mut self.random);
            let pieces = line.phrase(&mut self.random);
            let ours = match self.split {
                Split::Blind => !self.others.iter().any(|other| other.derives(&pieces)),
                split => Split::of(&pieces) == split,
            };
            if !ours {
                continue;
            }
            let mut answer = Answer::new(&line.intent);
            for (key, value) in &line.fixed {
                answer.set(key, value.clone());
            }
            let spoken = slots::fill(&pieces, &mut answer, &mut self.random);
            let spoken = noise::with_fillers(&spoken, line, grammar, &mut self.random);
            return (pieces, spoken, answer);
        }
    }
}

/// A text without capitals and the full stop: what two files are compared by.
fn bare(text: &str) -> String {
    text.to_lowercase()
        .trim_end_matches(['.', '!', '?'])
        .to_owned()
}

impl Iterator for Commands {
    type Item = Command;

    /// The next command; `None` once new ones can't be found any more.
    fn next(&mut self) -> Option<Command> {
        for _ in 0..MAX_REJECTED {
            let (_, spoken, answer) = self.phrase();
            let prompt = noise::roughen(&spoken, &mut self.random);
            if self.seen.insert(bare(&prompt)) {
                return Some(Command {
                    prompt,
                    completion: answer.json(),
                });
            }
        }
        None
    }
}
