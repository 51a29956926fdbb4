//! The calibration text as the model reads it: windows of equal length, spread evenly over the text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use furlong_runtime::text::Tokenizer;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The longest text that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Tokens of a window, unless the model's context is shorter.
const WINDOW: usize = 512;

/// The fewest tokens that say something about a model's inputs.
const FEWEST: usize = 256;

/// Token ids in windows of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// All windows, one after another.
    pub tokens: Vec<u32>,
    /// Tokens of each.
    pub length: usize,
}

impl Windows {
    /// Reads the text file `path` with the checkpoint's own tokenizer, and takes up to `most` tokens of it.
    ///
    /// # Errors
    /// A text that is no UTF-8, too long or too short, and a checkpoint without a tokenizer.
    pub fn read(path: &Path, checkpoint: &Checkpoint, most: usize) -> Result<Windows> {
        let refuse = |reason: &str| Error::Data {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let Some(tokenizer) = &checkpoint.sidecars().tokenizer else {
            return Err(refuse(
                "it can't be read as tokens, because the checkpoint has no tokenizer.json; leave --calibrate out",
            ));
        };
        let name = checkpoint.path().join("tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(&name, tokenizer.as_bytes())?;
        let file = File::open(path).map_err(Error::io(path))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(path))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refuse("longer than 64 MiB; a part of it is enough"));
        }
        let text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8 text"))?;
        let tokens = tokenizer.encode(&text, false)?;
        let context = checkpoint.architecture().context_length();
        Windows::of(&tokens, WINDOW.min(context), most).ok_or_else(|| {
            refuse("too short: a calibration text has a few hundred words at least, better some thousand")
        })
    }

    /// Up to `most` of `tokens` in windows of `length`, spread evenly; none if there are too few.
    pub fn of(tokens: &[u32], length: usize, most: usize) -> Option<Windows> {
        let length = length.min(tokens.len()).max(1);
        let there = tokens.len() / length;
        let count = there.min(most / length).max(1);
        if count * length < FEWEST.min(most) || there == 0 {
            return None;
        }
        let starts = (0..count).map(|index| index * there / count * length);
        Some(Windows {
            tokens: starts
                .flat_map(|start| tokens.iter().skip(start).take(length).copied())
                .collect(),
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_apart_and_from_all_over_the_text() {
        let tokens: Vec<u32> = (0..10_000).collect();
        let windows = Windows::of(&tokens, 100, 1000).unwrap();
        assert_eq!((windows.length, windows.tokens.len()), (100, 1000));
        let starts: Vec<u32> = windows.tokens.iter().copied().step_by(100).collect();
        assert_eq!(starts, (0..10).map(|i| i * 1000).collect::<Vec<u32>>());
        assert_eq!(
            Windows::of(&tokens[..450], 300, 4096).unwrap().tokens.len(),
            300
        );
        assert!(Windows::of(&tokens[..200], 300, 4096).is_none());
        assert!(Windows::of(&[], 300, 4096).is_none());
    }
}
