//! Ctrl-C: asks a command to end soon and tidily; a second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// Exit code after Ctrl-C, as shells expect it.
pub const INTERRUPTED: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C.
///
/// # Errors
/// An operating system that refuses.
pub fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("can't take over Ctrl-C")
}

/// True once Ctrl-C has come.
pub fn requested() -> &'static AtomicBool {
    &STOP
}

/// Whether Ctrl-C has come.
pub fn is_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// From now on the first Ctrl-C ends the program.
pub fn end_at_once() {
    STOP.store(true, Ordering::SeqCst);
}
