//! What carries text in, and answers and logs out.
//!
//! Where there is one stream out (an emulator's output, a serial line), answers and logs share it: text is sent as it is, and a log
//! frame goes between two zero bytes and one. Neither holds a zero itself (defmt's rzCOBS has none), so a listener that comes in
//! late finds its place by itself: what follows two or more zeros is a frame, anything else is text. RTT has a channel for each.

#[cfg(transport = "pl011")]
#[path = "pl011.rs"]
mod device;
#[cfg(transport = "rtt")]
#[path = "rtt.rs"]
mod device;
#[cfg(transport = "semihosting")]
#[path = "semihosting.rs"]
mod device;

#[cfg(end = "debugger")]
pub(crate) use device::debugger_attached;

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A byte of text.
    Byte(u8),
    /// Nothing yet.
    Nothing,
    /// No more will come.
    End,
}

pub(crate) fn begin() {
    device::begin();
}

/// Sends a piece of an answer.
pub fn write(text: &str) {
    device::write_text(text.as_bytes());
}

/// Takes a byte, and waits for one if told to.
pub fn read(wait: bool) -> Input {
    device::read(wait)
}

/// Says that what follows is a frame. [`write_log`] ends it: a frame's last byte is zero.
pub(crate) fn begin_log() {
    #[cfg(not(transport = "rtt"))]
    device::write_text(&[0, 0]);
}

pub(crate) fn write_log(bytes: &[u8]) {
    device::write_log(bytes);
}
