//! How commands really arrive: with polite words around them, hesitation, and the mistakes of speech recognition.

use super::answer::Answer;
use super::grammar::{Grammar, Line, Pattern, expanded};
use super::slots::{chance, fill, one_of};
use crate::comparison::Random;

/// Words, and what speech recognition hears instead. None is a number or another command's word.
const MISHEARD: [(&str, &str); 39] = [
    ("lights", "light's"),
    ("lights", "lites"),
    ("light", "lite"),
    ("blinds", "blind's"),
    ("kitchen", "kitchin"),
    ("heating", "heeting"),
    ("heating", "eating"),
    ("turn", "tern"),
    ("off", "of"),
    ("off", "cough"),
    ("dim", "dimm"),
    ("dim", "dime"),
    ("shut", "shot"),
    ("the", "da"),
    ("the", "a"),
    ("close", "clothes"),
    ("lock", "log"),
    ("weather", "whether"),
    ("music", "musik"),
    ("volume", "volumes"),
    ("in", "and"),
    ("study", "steady"),
    ("bedroom", "bed room"),
    ("bathroom", "bath room"),
    ("living room", "livingroom"),
    ("alarm", "a lamb"),
    ("degrees", "degree"),
    ("percent", "per cent"),
    ("please", "pleas"),
    ("hall", "haul"),
    ("wake", "weak"),
    ("to", "too"),
    ("switch", "which"),
    ("curtains", "curtain's"),
    ("vacuum", "vacume"),
    ("temperature", "temprature"),
    ("thermostat", "thermo stat"),
    ("what's", "whats"),
    ("it's", "its"),
];
/// Words that begin a question.
const ASKING: [&str; 14] = [
    "is", "are", "what", "what's", "how", "did", "has", "can", "could", "would", "will", "do",
    "when", "who",
];

/// A command with polite words before and after it, or without.
pub(super) fn with_fillers(
    command: &str,
    line: &Line,
    grammar: &Grammar,
    random: &mut Random,
) -> String {
    let say = |pattern: &Pattern, random: &mut Random| {
        // Fillers mean nothing.
        fill(&expanded(pattern, random), &mut Answer::new("none"), random)
    };
    let mut spoken = command.to_owned();
    if line.imperative && chance(28, random) {
        spoken = format!("{} {spoken}", say(&grammar.request, random));
    }
    if chance(18, random) {
        let comma = one_of(&[",", ",", ""], random);
        spoken = format!("{}{comma} {spoken}", say(&grammar.neutral, random));
    }
    if chance(20, random) {
        let comma = one_of(&[",", "", ""], random);
        spoken = format!("{spoken}{comma} {}", say(&grammar.after, random));
    }
    spoken
}

/// The command as it arrives: mostly as it is, sometimes misheard, with capitals and full stops or without.
pub(super) fn roughen(spoken: &str, random: &mut Random) -> String {
    let mut words: Vec<String> = spoken.split_whitespace().map(str::to_owned).collect();
    if chance(16, random) {
        mishear(&mut words, random);
    }
    let mut text = words.join(" ");
    if chance(30, random) {
        let first = words.iter().find(|word| ASKING.contains(&word.as_str()));
        text.push_str(match first {
            Some(_) => one_of(&["?", "?", "."], random),
            None => one_of(&[".", ".", "!"], random),
        });
    }
    if chance(35, random) {
        let mut chars = text.chars();
        text = match chars.next() {
            Some(first) => first.to_uppercase().chain(chars).collect(),
            None => text,
        };
    }
    text
}

/// One mistake.
fn mishear(words: &mut Vec<String>, random: &mut Random) {
    let place = random.below(words.len());
    match random.below(6) {
        0 => {
            if let Some(article) = words.iter().position(|word| word == "the" || word == "a") {
                words.remove(article);
            }
        }
        1 => words.insert(place, words[place].clone()),
        2 => {
            let noise = one_of(&["um", "uh", "er", "hm", "like"], random);
            words.insert(place, noise.to_owned());
        }
        3 | 4 => {
            let known: Vec<(usize, &str)> = words
                .iter()
                .enumerate()
                .flat_map(|(place, word)| {
                    let heard = MISHEARD.iter().filter(move |(said, _)| said == word);
                    heard.map(move |(_, heard)| (place, *heard))
                })
                .collect();
            if !known.is_empty() {
                let (place, heard) = one_of(&known, random);
                words[place] = heard.to_owned();
            }
        }
        _ => {
            // A slip of the finger, in a word long enough to be known without the letter.
            let word = &words[place];
            if word.len() > 4 && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
                let letter = 1 + random.below(word.len() - 2);
                let mut letters = word.clone().into_bytes();
                match random.below(2) {
                    0 => drop(letters.remove(letter)),
                    _ => letters.swap(letter, letter + 1),
                }
                words[place] = String::from_utf8(letters).unwrap_or_default();
            }
        }
    }
}
