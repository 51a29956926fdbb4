//! What a tokenizer knows about characters: to which class each belongs, and what it is turned into before anything else.
//!
//! The tables are in the image, made by the very code that a host's tokenizer runs, so no Unicode data is linked in and
//! none can be of another version. Both are short where a model's characters are few kinds.

use super::super::record::Reader;

/// Bytes of a rule: first and last character, step, and what is added to a character.
pub const RULE_BYTES: usize = 16;
/// Bytes of an expansion: a character, and the three that it becomes, 0 where there are fewer.
pub const EXPANSION_BYTES: usize = 16;
/// Bytes of a class: `first character · 16 + class`, up to where the next one begins.
pub const CLASS_BYTES: usize = 4;

/// What a character is to the pattern that cuts a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CharacterClass {
    /// None of the others.
    Other,
    /// A letter, Unicode's L.
    Letter,
    /// A number, Unicode's N.
    Number,
    /// White space.
    Space,
    /// A number that stands alone, whatever is around it.
    Digit,
    /// A character that is a word by itself: punctuation, ideographs.
    Alone,
    /// A character that is left out: controls, accents.
    Removed,
}

/// The classes by their codes.
const CLASSES: [CharacterClass; 7] = [
    CharacterClass::Other,
    CharacterClass::Letter,
    CharacterClass::Number,
    CharacterClass::Space,
    CharacterClass::Digit,
    CharacterClass::Alone,
    CharacterClass::Removed,
];

impl CharacterClass {
    /// The code in the image.
    pub fn code(self) -> u32 {
        let code = CLASSES.iter().position(|&class| class == self);
        code.unwrap_or_default() as u32
    }
}

/// Tables of characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Characters<'p> {
    pub rules: &'p [u8],
    pub expansions: &'p [u8],
    pub classes: &'p [u8],
}

/// Syllables of Hangul fall apart by arithmetic: The Unicode Standard, section 3.12.
const SYLLABLES: core::ops::Range<u32> = 0xAC00..0xD7A4;

impl Characters<'_> {
    /// Whether the tables are in order.
    pub(super) fn holds(&self) -> bool {
        let rules = || self.rules.as_chunks::<RULE_BYTES>().0.iter().map(rule);
        let expansions = || self.expansions.as_chunks::<EXPANSION_BYTES>().0.iter();
        let expanded = || expansions().map(|record| numbers(record)[0]);
        let classes = || self.classes.as_chunks::<CLASS_BYTES>().0.iter();
        let starts = || classes().map(|record| u32::from_le_bytes(*record) >> 4);
        rules().zip(rules().skip(1)).all(|(a, b)| a.last < b.first)
            && rules().all(|rule| rule.first <= rule.last && rule.step > 0)
            && expanded().zip(expanded().skip(1)).all(|(a, b)| a < b)
            && starts().zip(starts().skip(1)).all(|(a, b)| a < b)
    }

    /// Whether any character is turned into something else.
    pub(super) fn fold_any(&self) -> bool {
        !self.rules.is_empty() || !self.expansions.is_empty()
    }

    /// The class of a character.
    pub(super) fn class(&self, character: u32) -> CharacterClass {
        let records = self.classes.as_chunks::<CLASS_BYTES>().0;
        let after = records.partition_point(|record| u32::from_le_bytes(*record) >> 4 <= character);
        let own = after.checked_sub(1).and_then(|own| records.get(own));
        let code = own.map_or(0, |record| u32::from_le_bytes(*record) & 15);
        let class = CLASSES.get(code as usize).copied();
        class.unwrap_or(CharacterClass::Other)
    }

    /// What becomes of a character: itself, another, or up to three.
    pub(super) fn fold(&self, character: u32) -> [Option<u32>; 3] {
        // The first of the syllables stands for all.
        let is_syllable = SYLLABLES.contains(&character);
        let listed = if is_syllable {
            SYLLABLES.start
        } else {
            character
        };
        if let Some(parts) = self.expansion(listed) {
            return match is_syllable {
                true => syllable(character),
                false => parts.map(|part| (part != 0).then_some(part)),
            };
        }
        let rules = self.rules.as_chunks::<RULE_BYTES>().0;
        let after = rules.partition_point(|record| rule(record).last < character);
        let found = rules.get(after).map(rule);
        let found = found.filter(|rule| {
            let from = character.checked_sub(rule.first);
            from.and_then(|from| from.checked_rem(rule.step)) == Some(0)
        });
        match found {
            None => [Some(character), None, None],
            Some(rule) => [Some(character.wrapping_add(rule.add)), None, None],
        }
    }

    fn expansion(&self, character: u32) -> Option<[u32; 3]> {
        let records = self.expansions.as_chunks::<EXPANSION_BYTES>().0;
        let found = records.binary_search_by_key(&character, |record| numbers(record)[0]);
        let [_, first, second, third] = numbers(records.get(found.ok()?)?);
        Some([first, second, third])
    }
}

/// The letters of a Hangul syllable.
fn syllable(character: u32) -> [Option<u32>; 3] {
    let index = character.saturating_sub(SYLLABLES.start);
    let (lead, vowel, tail) = (index / 588, index % 588 / 28, index % 28);
    let tail = (tail > 0).then_some(0x11A7 + tail);
    [Some(0x1100 + lead), Some(0x1161 + vowel), tail]
}

/// A run of characters, every `step`-th of which gets `add` added.
struct Rule {
    first: u32,
    last: u32,
    step: u32,
    add: u32,
}

fn rule(record: &[u8; RULE_BYTES]) -> Rule {
    let [first, last, step, add] = numbers(record);
    Rule {
        first,
        last,
        step,
        add,
    }
}

fn numbers(record: &[u8; 16]) -> [u32; 4] {
    let mut reader = Reader::new(record);
    [(); 4].map(|()| reader.u32())
}
