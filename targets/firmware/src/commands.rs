//! Lines of text that come in over the transport, and those that wait while one is answered.

use crate::transport::{self, Input};
use heapless::{Deque, Vec};

/// The longest line in bytes; what goes beyond is cut off.
pub const LINE: usize = 256;
/// Ends a transmission (Ctrl-D): no more lines will come. Serial lines and ring buffers have no end of their own.
const END_OF_TRANSMISSION: u8 = 4;
/// How many lines may wait.
const WAITING: usize = 4;

/// One line, without its end.
pub type Line = Vec<u8, LINE>;

/// The lines that came in.
#[derive(Default)]
pub struct Commands {
    waiting: Deque<Line, WAITING>,
    partial: Line,
    cut: bool,
    ended: bool,
}

impl Commands {
    /// Nothing has come in yet.
    pub const fn new() -> Self {
        Self {
            waiting: Deque::new(),
            partial: Vec::new(),
            cut: false,
            ended: false,
        }
    }

    /// Takes in what has come, without waiting: call it between steps, so that nothing is lost while a model works.
    pub fn poll(&mut self) {
        while !self.waiting.is_full() && !self.ended {
            match transport::read(false) {
                Input::Nothing => break,
                input => self.take(input),
            }
        }
    }

    /// The next line; waits for one. `None` when no more will come.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.take(transport::read(true));
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Byte(b'\n' | b'\r') => self.finish(),
            Input::Byte(END_OF_TRANSMISSION) | Input::End => {
                self.finish();
                self.ended = true;
            }
            Input::Byte(byte) => self.cut |= self.partial.push(byte).is_err(),
            Input::Nothing => {}
        }
    }

    fn finish(&mut self) {
        if core::mem::take(&mut self.cut) {
            defmt::warn!("a line was cut off after {=usize} bytes", LINE);
        }
        let line = core::mem::take(&mut self.partial);
        if !line.is_empty() && self.waiting.push_back(line).is_err() {
            defmt::warn!("a line was lost: {=usize} wait already", WAITING);
        }
    }
}
