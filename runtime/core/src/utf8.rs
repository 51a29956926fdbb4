//! Text from token bytes, never splitting a character.
//!
//! Byte-level tokens may end in the middle of a UTF-8 character. The assembler holds such an end back until
//! the rest arrives.

use heapless::Vec;

/// Puts characters together from pieces of bytes.
#[derive(Clone, Debug, Default)]
pub struct Utf8Assembler {
    /// The start of a character, at most three bytes.
    pending: Vec<u8, 4>,
}

impl Utf8Assembler {
    /// An assembler with nothing held back.
    pub const fn new() -> Self {
        Utf8Assembler {
            pending: Vec::new(),
        }
    }

    /// Takes the next bytes and calls `emit` with whole characters, in order. Bytes that can't be UTF-8
    /// become U+FFFD as `String::from_utf8_lossy` does it.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        let mut rest = bytes;
        while let (false, Some((&next, after))) = (self.pending.is_empty(), rest.split_first()) {
            // Four bytes always hold a whole character or an error, so there is room.
            if self.pending.push(next).is_err() {
                self.pending.clear();
            }
            match core::str::from_utf8(&self.pending) {
                Ok(text) => {
                    emit(text);
                    self.pending.clear();
                    rest = after;
                }
                Err(error) if error.error_len().is_some() => {
                    // The byte just taken does not continue the character: it starts anew.
                    self.pending.clear();
                    emit("\u{FFFD}");
                }
                Err(_) => rest = after,
            }
        }
        loop {
            match core::str::from_utf8(rest) {
                Ok(text) => {
                    if !text.is_empty() {
                        emit(text);
                    }
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest
                        .split_at_checked(error.valid_up_to())
                        .unwrap_or((rest, &[]));
                    if let (Ok(text), false) = (core::str::from_utf8(valid), valid.is_empty()) {
                        emit(text);
                    }
                    let Some(wrong) = error.error_len() else {
                        self.pending = Vec::from_slice(after).unwrap_or_default();
                        return;
                    };
                    emit("\u{FFFD}");
                    rest = after.get(wrong..).unwrap_or(&[]);
                }
            }
        }
    }

    /// Ends the text: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self, mut emit: impl FnMut(&str)) {
        if !self.pending.is_empty() {
            self.pending.clear();
            emit("\u{FFFD}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;

    fn assemble<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
        let mut text = String::new();
        let mut assembler = Utf8Assembler::new();
        for piece in pieces {
            assembler.push(piece, |part| text.push_str(part));
        }
        assembler.finish(|part| text.push_str(part));
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_cut_gives_the_lossy_text(bytes in bytes_like_text(), cut in 1usize..5) {
            prop_assert_eq!(assemble(bytes.chunks(cut)), String::from_utf8_lossy(&bytes));
        }
    }

    fn bytes_like_text() -> impl Strategy<Value = std::vec::Vec<u8>> {
        let piece = prop_oneof![
            "\\PC{0,4}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..4),
            Just(std::vec![0xF0, 0x9F]),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }
}
