//! Ctrl-C: ends the program, unless an answer is being written: then the first one only ends the answer.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::failure::INTERRUPTED;

static ANSWERING: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C, and SIGTERM with it.
///
/// # Errors
/// An operating system that refuses.
pub fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if !ANSWERING.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("can't take over Ctrl-C")
}

/// An answer is being written while this lives.
pub struct Answering(());

impl Answering {
    /// Begins an answer.
    pub fn begin() -> Self {
        REQUESTED.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Answering(())
    }

    /// True once Ctrl-C has come.
    pub fn cancelled(&self) -> &AtomicBool {
        &REQUESTED
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
    }
}
