//! Lines of a text file, each of bounded length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The longest line of data, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// The largest file that is read, in bytes: what was read stays in memory.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// The lines of a file, one after another. Empty ones are passed over.
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    hasher: Sha256,
    buffer: Vec<u8>,
    number: usize,
    longest: usize,
    left: u64,
}

impl Lines {
    /// Opens a file, whose lines may have up to `longest` bytes.
    ///
    /// # Errors
    /// When it can't be opened, or is no ordinary file.
    pub fn open(path: &Path, longest: usize) -> Result<Lines> {
        // Asked before it is opened, because opening a pipe waits for its other end.
        let metadata = path.metadata().map_err(Error::io(path))?;
        if !metadata.is_file() {
            return Err(Error::Data {
                path: path.to_owned(),
                reason: "not an ordinary file; name a file of JSON lines".to_owned(),
            });
        }
        let file = File::open(path).map_err(Error::io(path))?;
        Ok(Lines {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 16, file),
            hasher: Sha256::new(),
            buffer: Vec::new(),
            number: 0,
            longest,
            left: MAX_FILE_BYTES,
        })
    }

    /// The next line that isn't empty, with its number; or what keeps it from being read.
    ///
    /// # Errors
    /// When the file can't be read on, or is too large.
    pub fn next_line(&mut self) -> Result<Option<(usize, std::result::Result<&str, String>)>> {
        loop {
            if !self.fill()? {
                return Ok(None);
            }
            let blank = self.buffer.len() <= self.longest && self.buffer.trim_ascii().is_empty();
            if !blank {
                break;
            }
        }
        if self.buffer.len() > self.longest {
            let reason = format!(
                "longer than {} bytes; cut it into several lines",
                self.longest
            );
            return Ok(Some((self.number, Err(reason))));
        }
        let bytes = match self.number {
            1 => self
                .buffer
                .strip_prefix(b"\xef\xbb\xbf")
                .unwrap_or(&self.buffer),
            _ => &self.buffer,
        };
        let text = std::str::from_utf8(bytes).map(str::trim);
        Ok(Some((
            self.number,
            text.map_err(|error| format!("not UTF-8: {error}")),
        )))
    }

    /// `sha256:` and the digest of what was read.
    pub fn digest(self) -> String {
        let hash = self.hasher.finalize();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    /// Reads one line, of which at most one byte more than the limit is kept. False at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.clear();
        let mut any = false;
        loop {
            let room = (self.longest + 1).saturating_sub(self.buffer.len());
            let kept = self.buffer.len();
            // Past the limit the rest of the line goes through a small buffer.
            let mut rest = Vec::new();
            let (target, limit) = match room {
                0 => (&mut rest, 1 << 16),
                room => (&mut self.buffer, room),
            };
            let limited = (&mut self.reader)
                .take(limit as u64)
                .read_until(b'\n', target);
            let count = limited.map_err(Error::io(&self.path))?;
            let new = if room == 0 {
                rest.as_slice()
            } else {
                self.buffer.get(kept..).unwrap_or_default()
            };
            self.hasher.update(new);
            any |= count > 0;
            self.left = self
                .left
                .checked_sub(count as u64)
                .ok_or_else(|| Error::Data {
                    path: self.path.clone(),
                    reason: format!("larger than {MAX_FILE_BYTES} bytes; split it"),
                })?;
            if count == 0 || new.ends_with(b"\n") {
                break;
            }
        }
        self.number += usize::from(any);
        Ok(any)
    }
}
