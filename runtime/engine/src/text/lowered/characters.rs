//! Tables of characters for a board, made by what the host's tokenizer runs: so both agree, whatever version of Unicode that is.

use furlong_core::plan::CharacterClass;
use tokenizers::utils::SysRegex;

/// The tables of a plan's tokenizer, as bytes.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Runs of characters that become other ones.
    pub rules: Vec<u8>,
    /// Characters that become several.
    pub expansions: Vec<u8>,
    /// Where a class begins.
    pub classes: Vec<u8>,
}

/// Syllables of Hangul, which all fall apart in the same way.
const SYLLABLES: std::ops::RangeInclusive<char> = '\u{AC00}'..='\u{D7A3}';

/// Characters are made lower-case.
pub(super) fn lower_case() -> Result<Tables, String> {
    let mut tables = Tables::default();
    tables.fold(|character| character.to_lowercase().collect())?;
    Ok(tables)
}

/// The classes of the patterns that cut texts. With `digits`, what the standard library calls numeric stands alone.
pub(super) fn letters_and_numbers(digits: bool) -> Result<Tables, String> {
    let all: String = ('\0'..=char::MAX).collect();
    let mut classes: Vec<CharacterClass> = all.chars().map(|_| CharacterClass::Other).collect();
    let wanted = [
        (r"\p{L}+", CharacterClass::Letter),
        (r"\p{N}+", CharacterClass::Number),
        (r"\s+", CharacterClass::Space),
    ];
    for (pattern, class) in wanted {
        let pattern = SysRegex::new(pattern).map_err(|error| error.to_string())?;
        for (start, end) in pattern.find_iter(&all) {
            let found = all.get(start..end).unwrap_or_default().chars();
            for character in found {
                if let Some(place) = classes.get_mut(number_of(character)) {
                    *place = class;
                }
            }
        }
    }
    let mut tables = Tables::default();
    tables.classify(|character| {
        if digits && character.is_numeric() {
            return CharacterClass::Digit;
        }
        let class = classes.get(number_of(character));
        class.copied().unwrap_or(CharacterClass::Other)
    });
    Ok(tables)
}

/// How many characters come before one: surrogates are none.
pub(super) fn number_of(character: char) -> usize {
    let code = u32::from(character) as usize;
    if code < 0xE000 { code } else { code - 0x800 }
}

impl Tables {
    /// Says for each character what becomes of it.
    ///
    /// # Errors
    /// What has no place in a table: more than three characters, and syllables that don't fall apart like others.
    pub(super) fn fold(&mut self, fold: impl Fn(char) -> Vec<char>) -> Result<(), String> {
        // First, last, step, what is added.
        let mut rules: Vec<[u32; 4]> = Vec::new();
        for character in '\0'..=char::MAX {
            let folded = fold(character);
            let code = u32::from(character);
            if folded == [character] {
                continue;
            }
            if SYLLABLES.contains(&character) {
                if folded != letters(code) {
                    return Err(format!("the syllable {character:?} becomes {folded:?}"));
                }
                if character == *SYLLABLES.start() {
                    self.expand(code, [0; 3]);
                }
                continue;
            }
            let add = match folded.as_slice() {
                &[other] => u32::from(other).wrapping_sub(code),
                parts if parts.len() <= 3 => {
                    let mut codes = [0; 3];
                    let places = codes.iter_mut().zip(parts);
                    places.for_each(|(to, &part)| *to = u32::from(part));
                    self.expand(code, codes);
                    continue;
                }
                _ => return Err(format!("{character:?} becomes {folded:?}")),
            };
            match rules.last_mut() {
                Some([first, last, step, known])
                    if *known == add
                        && code - *last <= 2
                        && (first == last || code - *last == *step) =>
                {
                    *step = code - *last;
                    *last = code;
                }
                _ => rules.push([code, code, 1, add]),
            }
        }
        let numbers = rules.iter().flatten();
        self.rules = numbers.flat_map(|number| number.to_le_bytes()).collect();
        Ok(())
    }

    fn expand(&mut self, code: u32, parts: [u32; 3]) {
        let numbers = [code].into_iter().chain(parts);
        self.expansions.extend(numbers.flat_map(u32::to_le_bytes));
    }

    /// Says for each character to which class it belongs.
    pub(super) fn classify(&mut self, class: impl Fn(char) -> CharacterClass) {
        let mut last = CharacterClass::Other;
        for character in '\0'..=char::MAX {
            let class = class(character);
            if class != last {
                let word = u32::from(character) << 4 | class.code();
                self.classes.extend(word.to_le_bytes());
                last = class;
            }
        }
    }
}

/// The letters of a Hangul syllable: The Unicode Standard, section 3.12.
fn letters(code: u32) -> Vec<char> {
    let index = code.saturating_sub(u32::from(*SYLLABLES.start()));
    let tail = (!index.is_multiple_of(28)).then_some(0x11A7 + index % 28);
    let parts = [
        Some(0x1100 + index / 588),
        Some(0x1161 + index % 588 / 28),
        tail,
    ];
    parts
        .into_iter()
        .flatten()
        .filter_map(char::from_u32)
        .collect()
}
