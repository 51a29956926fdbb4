//! Token ids in, text out, without ever splitting a character.

use furlong_core::utf8::Utf8Assembler;

use super::pieces::Pieces;
use super::tokenizer::Tokenizer;
use crate::Error;

/// Decodes a text one token at a time. Bytes of a character that isn't complete wait for the rest of it.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Spaces still to be taken away at the start of the text.
    strip: usize,
    /// The bytes of the last token.
    bytes: Vec<u8>,
    characters: Utf8Assembler,
    whole: Window,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, continues: bool) -> Self {
        let strip = if continues {
            0
        } else {
            tokenizer.pieces().leading_spaces()
        };
        Self {
            tokenizer,
            strip,
            bytes: Vec::new(),
            characters: Utf8Assembler::new(),
            whole: Window::default(),
        }
    }

    /// Takes the next token and appends the text it completes to `out`; often that is nothing. Special tokens have no
    /// text.
    ///
    /// # Errors
    /// A tokenizer that can't decode its own tokens.
    pub fn push(&mut self, id: u32, out: &mut String) -> Result<(), Error> {
        if self.tokenizer.is_special(id) {
            return Ok(());
        }
        if let Pieces::Whole = self.tokenizer.pieces() {
            return self.whole.push(self.tokenizer, id, out);
        }
        // Models round their vocabulary up: an id past the tokenizer's has no text.
        let Some(token) = self.tokenizer.token(id) else {
            return Ok(());
        };
        self.bytes.clear();
        self.tokenizer.pieces().append(&token, &mut self.bytes);
        while self.strip > 0 && !self.bytes.is_empty() {
            if self.bytes.first() == Some(&b' ') {
                self.bytes.remove(0);
                self.strip -= 1;
            } else {
                self.strip = 0;
            }
        }
        self.characters.push(&self.bytes, |text| out.push_str(text));
        Ok(())
    }

    /// Appends what is left to `out`: a character that never became complete turns into U+FFFD.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self, out: &mut String) -> Result<(), Error> {
        self.characters.finish(|text| out.push_str(text));
        self.whole.finish(self.tokenizer, out)
    }
}

/// Streaming for decoders that only know whole texts: decodes the last few tokens with and without the new one, and
/// shows the difference.
#[derive(Debug, Default)]
struct Window {
    ids: Vec<u32>,
    /// How many of `ids` have been shown.
    shown: usize,
}

impl Window {
    fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) -> Result<(), Error> {
        self.ids.push(id);
        let text = tokenizer.decode(&self.ids, true)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(());
        }
        self.show(tokenizer, &text, out)
    }

    fn finish(&mut self, tokenizer: &Tokenizer, out: &mut String) -> Result<(), Error> {
        if self.shown < self.ids.len() {
            let text = tokenizer.decode(&self.ids, true)?;
            self.show(tokenizer, &text, out)?;
        }
        Ok(())
    }

    fn show(&mut self, tokenizer: &Tokenizer, text: &str, out: &mut String) -> Result<(), Error> {
        let before = self.ids.get(..self.shown).unwrap_or_default();
        let before = tokenizer.decode(before, true)?;
        out.push_str(text.strip_prefix(before.as_str()).unwrap_or_default());
        // The tokens just shown stay as the context of the next ones.
        self.ids.drain(..self.shown);
        self.shown = self.ids.len();
        Ok(())
    }
}
