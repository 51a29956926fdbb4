//! Cuts a text into pieces as the regular expressions of byte-level tokenizers do, without an engine for them.
//!
//! Three patterns are in use, and each of their alternatives is a run of characters of one class with something before or after
//! it, so one look at the next character decides. Every character is in some piece.

use super::characters::{CharacterClass, Characters};

/// How a tokenizer cuts a text before it merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Cut {
    /// Not at all.
    Whole,
    /// As GPT-2 does:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// As Llama 3 does, with numbers of up to so many digits:
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3 {
        /// 1 or 3.
        digits: u8,
    },
}

impl Cut {
    /// The code in the image.
    pub fn code(self) -> u32 {
        match self {
            Cut::Whole => 0,
            Cut::Gpt2 => 1,
            Cut::Llama3 { digits: 1 } => 2,
            Cut::Llama3 { .. } => 3,
        }
    }

    pub(super) fn of(code: u32) -> Option<Cut> {
        match code {
            0 => Some(Cut::Whole),
            1 => Some(Cut::Gpt2),
            2 => Some(Cut::Llama3 { digits: 1 }),
            3 => Some(Cut::Llama3 { digits: 3 }),
            _ => None,
        }
    }
}

/// A place in a text, and what comes from there on.
#[derive(Clone, Copy)]
struct Place<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Place<'t> {
    fn next(self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    /// Behind the next character if it is as wanted.
    fn past(self, wanted: impl FnOnce(char) -> bool) -> Option<Place<'t>> {
        let next = self.next().filter(|&next| wanted(next))?;
        let at = self.at.saturating_add(next.len_utf8());
        Some(Place { at, ..self })
    }

    /// Behind all characters that are as wanted, at most so many.
    fn past_all(self, most: usize, wanted: impl Fn(char) -> bool) -> Place<'t> {
        let mut place = self;
        for _ in 0..most {
            match place.past(&wanted) {
                Some(next) => place = next,
                None => break,
            }
        }
        place
    }
}

/// The first piece of a text and the rest; `None` at its end. With `digits`, characters of that class stand alone, and the
/// pattern sees only what is between them.
pub(super) fn first<'t>(
    cut: Cut,
    digits: bool,
    characters: &Characters<'_>,
    text: &'t str,
) -> Option<(&'t str, &'t str)> {
    let class = |character: char| characters.class(character.into());
    let is_digit = |character: char| class(character) == CharacterClass::Digit;
    let start = Place { text, at: 0 };
    start.next()?;
    let end = match start.past(|next| digits && is_digit(next)) {
        Some(digit) => digit.at,
        None => {
            // What is before the next digit is a text of its own.
            let part = match digits {
                true => start.past_all(usize::MAX, |c| !is_digit(c)).at,
                false => text.len(),
            };
            let place = Place {
                text: text.get(..part)?,
                at: 0,
            };
            let piece = match cut {
                Cut::Whole => None,
                Cut::Gpt2 => gpt2(place, class),
                Cut::Llama3 { digits } => llama3(place, digits.into(), class),
            };
            // Classes that no pattern knows are not in a plan that was made well.
            piece.unwrap_or(part)
        }
    };
    text.split_at_checked(end)
}

/// Where a contraction ends that begins here.
fn contraction(place: Place<'_>, same: impl Fn(char, char) -> bool) -> Option<usize> {
    let quoted = place.past(|c| c == '\'')?;
    let endings = ["s", "t", "re", "ve", "m", "ll", "d"];
    endings.iter().find_map(|ending| {
        let behind = ending.chars().try_fold(quoted, |place, wanted| {
            place.past(|next| same(next, wanted))
        });
        behind.map(|place| place.at)
    })
}

/// Where the run of characters of a class ends that begins here; `None` if there is none.
fn run(
    place: Place<'_>,
    wanted: CharacterClass,
    class: impl Fn(char) -> CharacterClass,
) -> Option<Place<'_>> {
    let is_wanted = |c| match (class(c), wanted) {
        // A digit that was cut off stands alone, and is a number if anything asks.
        (CharacterClass::Digit, CharacterClass::Number) => true,
        (found, wanted) => found == wanted,
    };
    let place = place.past(is_wanted)?;
    Some(place.past_all(usize::MAX, is_wanted))
}

fn gpt2(start: Place<'_>, class: impl Fn(char) -> CharacterClass) -> Option<usize> {
    if let Some(end) = contraction(start, |next, wanted| next == wanted) {
        return Some(end);
    }
    let spaced = start.past(|c| c == ' ').unwrap_or(start);
    let classes = [
        CharacterClass::Letter,
        CharacterClass::Number,
        CharacterClass::Other,
    ];
    let found = classes
        .iter()
        .find_map(|&wanted| run(spaced, wanted, &class));
    match found {
        Some(place) => Some(place.at),
        None => white(start, class),
    }
}

fn llama3(
    start: Place<'_>,
    digits: usize,
    class: impl Fn(char) -> CharacterClass,
) -> Option<usize> {
    // Without regard to case, a long s is an s.
    let same = |next: char, wanted: char| {
        next.to_ascii_lowercase() == wanted || (wanted == 's' && next == 'ſ')
    };
    if let Some(end) = contraction(start, same) {
        return Some(end);
    }
    let is_number = |c| matches!(class(c), CharacterClass::Number | CharacterClass::Digit);
    let is_line_end = |c| matches!(c, '\r' | '\n');
    let leads = |c| !is_line_end(c) && !is_number(c) && class(c) != CharacterClass::Letter;
    let led = start.past(leads).unwrap_or(start);
    if let Some(letters) = run(led, CharacterClass::Letter, &class) {
        return Some(letters.at);
    }
    if let Some(number) = start.past(is_number) {
        return Some(number.past_all(digits.saturating_sub(1), is_number).at);
    }
    let spaced = start.past(|c| c == ' ').unwrap_or(start);
    if let Some(others) = run(spaced, CharacterClass::Other, &class) {
        return Some(others.past_all(usize::MAX, is_line_end).at);
    }
    // White space up to the last end of a line in it.
    let mut lines = None;
    let mut place = start;
    while let Some(next) = place.past(|c| class(c) == CharacterClass::Space) {
        if place.next().is_some_and(is_line_end) {
            lines = Some(next.at);
        }
        place = next;
    }
    lines.or_else(|| white(start, class))
}

/// White space: all of it at the end of a text, else without the last character, which belongs to what follows, unless it is
/// the only one.
fn white(start: Place<'_>, class: impl Fn(char) -> CharacterClass) -> Option<usize> {
    let is_space = |c| class(c) == CharacterClass::Space;
    let mut last = start;
    let mut place = start.past(is_space)?;
    while let Some(next) = place.past(is_space) {
        last = place;
        place = next;
    }
    let all = place.next().is_none() || last.at == start.at;
    Some(if all { place.at } else { last.at })
}
