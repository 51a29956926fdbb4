//! The emulator's standard input and output.

use super::Input;
use crate::single::Single;
use heapless::Deque;
use semihosting::io::{self, Read, Write};

/// How many bytes are read at once: each call stops the processor and costs the host a system call.
const AT_ONCE: usize = 128;

static AHEAD: Single<Deque<u8, AT_ONCE>> = Single::new(Deque::new());

pub(super) fn begin() {}

pub(super) fn write_text(bytes: &[u8]) {
    if let Ok(mut out) = io::stdout() {
        // There is nobody to tell that the output is gone.
        let _ = out.write_all(bytes);
    }
}

pub(super) fn write_log(bytes: &[u8]) {
    write_text(bytes);
}

/// Reading waits for whoever types, so nothing is read while there is something else to do.
pub(super) fn read(wait: bool) -> Input {
    let byte = AHEAD.with(|ahead| {
        if ahead.is_empty() && wait {
            let mut bytes = [0; AT_ONCE];
            let count = match io::stdin() {
                Ok(mut input) => input.read(&mut bytes).unwrap_or(0),
                Err(_) => 0,
            };
            for &byte in bytes.iter().take(count) {
                // There is room: it was empty.
                let _ = ahead.push_back(byte);
            }
        }
        ahead.pop_front()
    });
    match byte.flatten() {
        Some(byte) => Input::Byte(byte),
        None if wait => Input::End,
        None => Input::Nothing,
    }
}
