//! Stop strings: text that ends a generation wherever it turns up, across pieces too.

use crate::Error;

/// The most stop strings one generation may have.
const MAX_STRINGS: usize = 64;
/// The longest stop string, in bytes.
const MAX_BYTES: usize = 4096;

/// Watches a stream of text for stop strings.
///
/// Text that could still become a stop string is held back; everything else is let through at once.
///
/// ```
/// use furlong_runtime::text::StopStrings;
///
/// let mut stops = StopStrings::new(vec!["END".to_owned()])?;
/// let mut out = String::new();
/// assert!(!stops.push("one E", &mut out));
/// assert_eq!(out, "one ");
/// assert!(stops.push("ND two", &mut out));
/// assert_eq!(out, "one ");
/// # Ok::<(), furlong_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
}

impl StopStrings {
    /// Takes the strings to stop at.
    ///
    /// # Errors
    /// An empty string, one of more than 4096 bytes, or more than 64 of them.
    pub fn new(strings: Vec<String>) -> Result<Self, Error> {
        if strings.len() > MAX_STRINGS {
            return Err(Error::Usage(format!(
                "{} stop strings are more than the {MAX_STRINGS} allowed",
                strings.len()
            )));
        }
        if strings.iter().any(|s| s.is_empty() || s.len() > MAX_BYTES) {
            return Err(Error::Usage(format!(
                "a stop string has between 1 and {MAX_BYTES} bytes"
            )));
        }
        Ok(Self {
            strings,
            held: String::new(),
        })
    }

    /// Takes the next piece of text, and appends to `out` what can be shown now.
    ///
    /// Returns true when a stop string is complete: it and what follows it are dropped, and the watch is over.
    pub fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.strings.is_empty() {
            out.push_str(text);
            return false;
        }
        self.held.push_str(text);
        let found = self
            .strings
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(position) = found {
            out.push_str(self.held.get(..position).unwrap_or_default());
            self.held.clear();
            return true;
        }
        let keep = self
            .strings
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        // A prefix of a stop string starts on a character border, so this split is one too.
        let split = self.held.len() - keep;
        out.push_str(self.held.get(..split).unwrap_or_default());
        self.held.drain(..split);
        false
    }

    /// Appends to `out` what was held back: nothing more will come.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

/// The longest end of `text` that is a proper beginning of `stop`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    let (text, stop) = (text.as_bytes(), stop.as_bytes());
    (1..stop.len().min(text.len() + 1))
        .rev()
        .find(|&length| text.ends_with(stop.get(..length).unwrap_or_default()))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when `text` arrives in pieces of `size` characters.
    fn run(stops: &[&str], text: &str, size: usize) -> (String, bool) {
        let mut watch = StopStrings::new(stops.iter().map(|s| (*s).to_owned()).collect()).unwrap();
        let characters: Vec<char> = text.chars().collect();
        let mut out = String::new();
        for piece in characters.chunks(size) {
            if watch.push(&piece.iter().collect::<String>(), &mut out) {
                return (out, true);
            }
        }
        watch.finish(&mut out);
        (out, false)
    }

    #[test]
    fn the_same_whatever_the_pieces() {
        for size in 1..12 {
            assert_eq!(run(&["</s>"], "a <b></s> c", size), ("a <b>".into(), true));
            assert_eq!(run(&["aab"], "aaab", size), ("a".into(), true));
            assert_eq!(
                run(&["終わり", "END"], "これで終わ…終わり。", size),
                ("これで終わ…".into(), true)
            );
            assert_eq!(
                run(&["\n\n"], "one\ntwo\n", size),
                ("one\ntwo\n".into(), false)
            );
            assert_eq!(run(&[], "free", size), ("free".into(), false));
        }
    }

    #[test]
    fn only_what_could_become_a_stop_string_is_held() {
        let mut watch = StopStrings::new(vec!["###".into()]).unwrap();
        let mut out = String::new();
        assert!(!watch.push("a#b##", &mut out));
        assert_eq!(out, "a#b");
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        assert!(StopStrings::new(vec![String::new()]).is_err());
    }
}
