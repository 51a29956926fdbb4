//! Ctrl-C: the first one asks to stop cleanly, a second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::failure::INTERRUPTED;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C (and SIGTERM); the flag turns true when it comes.
///
/// # Errors
/// An operating system that refuses.
pub fn install() -> anyhow::Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("can't take over Ctrl-C")?;
    Ok(&REQUESTED)
}
