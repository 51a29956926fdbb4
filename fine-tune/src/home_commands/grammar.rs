//! Phrasings: read from a file, expanded at random, and asked whether they could have said something.
//!
//! A line is `intent[!] [*weight] [slot=value …]: pattern`; `!` marks what a request such as «could you» may stand before.
//! In a pattern `(a|b|)` is one of several, `[a]` may be left out, and `{slot}` is filled in by [`slots`](super::slots)
//! unless the file has defined it with `$slot = pattern`. `neutral`, `request` and `after` list what may stand before
//! and after a command.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::comparison::Random;

/// The most pieces of a phrase that is looked for: a bit each.
const MAX_PIECES: usize = 63;

/// A part of a pattern.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Piece(Piece),
    Choice(Vec<Pattern>),
}

pub(super) type Pattern = Vec<Node>;

/// A word, or a slot that is still to be filled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Word(String),
    Slot(String),
}

/// One line of a grammar.
#[derive(Debug)]
pub(super) struct Line {
    /// What it means.
    pub(super) intent: String,
    /// Slots that the wording itself fills.
    pub(super) fixed: Vec<(String, Value)>,
    /// Whether it begins with a verb, so that «could you» may stand before it.
    pub(super) imperative: bool,
    weight: usize,
    pattern: Pattern,
}

/// The phrasings of a file.
#[derive(Debug)]
pub(super) struct Grammar {
    lines: Vec<Line>,
    /// What may stand before anything.
    pub(super) neutral: Pattern,
    /// What may stand before a verb.
    pub(super) request: Pattern,
    /// What may stand behind anything.
    pub(super) after: Pattern,
}

impl Grammar {
    pub(super) fn parse(text: &str) -> Result<Grammar, String> {
        let lines: Vec<(usize, &str)> = (1..)
            .zip(text.lines().map(str::trim))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let at = |number: usize| move |reason: String| format!("line {number}: {reason}");
        let mut macros = HashMap::new();
        for &(number, line) in &lines {
            if let Some((name, pattern)) = line.strip_prefix('$').and_then(|l| l.split_once('=')) {
                let pattern = Parser::parse(pattern, &macros).map_err(at(number))?;
                macros.insert(name.trim().to_owned(), pattern);
            }
        }
        let mut grammar = Grammar {
            lines: Vec::new(),
            neutral: Pattern::new(),
            request: Pattern::new(),
            after: Pattern::new(),
        };
        for (number, line) in lines {
            if line.starts_with('$') {
                continue;
            }
            let (head, pattern) = line
                .split_once(':')
                .ok_or_else(|| at(number)("there is no colon".to_owned()))?;
            let pattern = Parser::parse(pattern, &macros).map_err(at(number))?;
            match head.trim() {
                "neutral" => grammar.neutral = pattern,
                "request" => grammar.request = pattern,
                "after" => grammar.after = pattern,
                head => grammar
                    .lines
                    .push(Line::new(head, pattern).map_err(at(number))?),
            }
        }
        if grammar.lines.is_empty() {
            return Err("it has no lines".to_owned());
        }
        Ok(grammar)
    }

    /// A line, the heavier the likelier.
    pub(super) fn line(&self, random: &mut Random) -> &Line {
        let total: usize = self.lines.iter().map(|line| line.weight).sum();
        let mut drawn = random.below(total);
        for line in &self.lines {
            if drawn < line.weight {
                return line;
            }
            drawn -= line.weight;
        }
        &self.lines[0]
    }

    /// The intents, each once.
    #[cfg(test)]
    pub(super) fn intents(&self) -> std::collections::BTreeSet<&str> {
        self.lines.iter().map(|line| line.intent.as_str()).collect()
    }
}

/// Tells whether a grammar could have said something.
#[derive(Debug)]
pub(super) struct Recogniser {
    /// The pattern of each line, and all that can stand in it: few lines have every piece of a phrase.
    lines: Vec<(HashSet<Piece>, Pattern)>,
}

impl Recogniser {
    pub(super) fn new(grammar: Grammar) -> Recogniser {
        let with_pieces = |line: Line| {
            let mut pieces = HashSet::new();
            gather(&line.pattern, &mut pieces);
            (pieces, line.pattern)
        };
        Recogniser {
            lines: grammar.lines.into_iter().map(with_pieces).collect(),
        }
    }

    /// Whether some line could have been this phrase.
    pub(super) fn derives(&self, phrase: &[Piece]) -> bool {
        if phrase.len() > MAX_PIECES {
            return false;
        }
        let whole = 1u64 << phrase.len();
        self.lines.iter().any(|(pieces, pattern)| {
            phrase.iter().all(|piece| pieces.contains(piece))
                && ends(pattern, phrase, 1) & whole != 0
        })
    }
}

/// Puts what stands in `pattern` into `pieces`.
fn gather(pattern: &[Node], pieces: &mut HashSet<Piece>) {
    for node in pattern {
        match node {
            Node::Piece(piece) => {
                pieces.insert(piece.clone());
            }
            Node::Choice(choices) => choices.iter().for_each(|choice| gather(choice, pieces)),
        }
    }
}

impl Line {
    fn new(head: &str, pattern: Pattern) -> Result<Line, String> {
        let mut words = head.split_whitespace().peekable();
        let mut intent = words.next().unwrap_or_default();
        let imperative = intent.ends_with('!');
        intent = intent.trim_end_matches('!');
        let mut line = Line {
            intent: intent.to_owned(),
            fixed: Vec::new(),
            imperative,
            weight: 1,
            pattern,
        };
        // A value may have spaces: it reaches to the next word with a `=`, `*` or `!`.
        while let Some(word) = words.next() {
            if word == "!" {
                line.imperative = true;
            } else if let Some(weight) = word.strip_prefix('*') {
                line.weight = weight.parse().map_err(|_| format!("{word} is no weight"))?;
            } else if let Some((slot, value)) = word.split_once('=') {
                let imperative = value.ends_with('!');
                line.imperative |= imperative;
                let mut value = value.trim_end_matches('!').to_owned();
                while let Some(more) = words.next_if(|word| !word.contains(['=', '*', '!'])) {
                    value = format!("{value} {more}");
                }
                let value = match value.parse::<u64>() {
                    Ok(number) => Value::from(number),
                    Err(_) => Value::from(value),
                };
                line.fixed.push((slot.to_owned(), value));
            } else {
                return Err(format!("{word:?} is neither *weight nor slot=value"));
            }
        }
        Ok(line)
    }

    /// The line's pattern, one of each choice taken.
    pub(super) fn phrase(&self, random: &mut Random) -> Vec<Piece> {
        expanded(&self.pattern, random)
    }
}

/// A pattern with one of each choice taken.
pub(super) fn expanded(pattern: &[Node], random: &mut Random) -> Vec<Piece> {
    let mut pieces = Vec::new();
    expand(pattern, random, &mut pieces);
    pieces
}

fn expand(pattern: &[Node], random: &mut Random, pieces: &mut Vec<Piece>) {
    for node in pattern {
        match node {
            Node::Piece(piece) => pieces.push(piece.clone()),
            Node::Choice(choices) => {
                expand(&choices[random.below(choices.len())], random, pieces);
            }
        }
    }
}

/// Where in `phrase` the pattern can end when it starts at one of `starts`; both are sets of places, a bit each.
fn ends(pattern: &[Node], phrase: &[Piece], starts: u64) -> u64 {
    pattern.iter().fold(starts, |places, node| match node {
        _ if places == 0 => 0,
        Node::Piece(piece) => {
            let (mut rest, mut after) = (places, 0);
            while rest != 0 {
                let place = rest.trailing_zeros();
                rest &= rest - 1;
                if phrase.get(place as usize) == Some(piece) {
                    after |= 1 << (place + 1);
                }
            }
            after
        }
        Node::Choice(choices) => choices
            .iter()
            .fold(0, |all, choice| all | ends(choice, phrase, places)),
    })
}

/// Reads a pattern from the left.
struct Parser<'a> {
    rest: &'a str,
    macros: &'a HashMap<String, Pattern>,
}

impl<'a> Parser<'a> {
    fn parse(text: &'a str, macros: &'a HashMap<String, Pattern>) -> Result<Pattern, String> {
        let mut parser = Parser { rest: text, macros };
        let choices = parser.choices()?;
        match parser.rest {
            "" => Ok(vec![Node::Choice(choices)]),
            rest => Err(format!("{rest:?} closes nothing")),
        }
    }

    /// Sequences with `|` between them, up to a closing bracket or the end.
    fn choices(&mut self) -> Result<Vec<Pattern>, String> {
        let mut choices = vec![self.sequence()?];
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest;
            choices.push(self.sequence()?);
        }
        Ok(choices)
    }

    fn sequence(&mut self) -> Result<Pattern, String> {
        let mut nodes = Pattern::new();
        loop {
            self.rest = self.rest.trim_start();
            let Some(first) = self.rest.chars().next() else {
                return Ok(nodes);
            };
            match first {
                '|' | ')' | ']' => return Ok(nodes),
                '(' => nodes.push(Node::Choice(self.bracketed(')')?)),
                '[' => {
                    let mut choices = self.bracketed(']')?;
                    choices.push(Pattern::new());
                    nodes.push(Node::Choice(choices));
                }
                '{' => {
                    let (name, rest) = self.rest[1..]
                        .split_once('}')
                        .ok_or_else(|| format!("{:?} is not closed", self.rest))?;
                    self.rest = rest;
                    match self.macros.get(name) {
                        Some(pattern) => nodes.extend(pattern.iter().cloned()),
                        None if super::slots::is_known(name) => {
                            nodes.push(Node::Piece(Piece::Slot(name.to_owned())));
                        }
                        None => return Err(format!("{{{name}}} is not defined")),
                    }
                }
                _ => {
                    let end = self.rest.find([' ', '|', '(', ')', '[', ']', '{', '}']);
                    let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                    if word.is_empty() {
                        return Err(format!("{:?} closes nothing", self.rest));
                    }
                    self.rest = rest;
                    nodes.push(Node::Piece(Piece::Word(word.to_owned())));
                }
            }
        }
    }

    fn bracketed(&mut self, close: char) -> Result<Vec<Pattern>, String> {
        self.rest = &self.rest[1..];
        let choices = self.choices()?;
        match self.rest.strip_prefix(close) {
            Some(rest) => {
                self.rest = rest;
                Ok(choices)
            }
            None => Err(format!("a {close} is missing before {:?}", self.rest)),
        }
    }
}
