//! The kernels on a board without an operating system, as the emulator shows it: `check` compares each with its scalar twin, `count`
//! counts the instructions of the shapes that docs/performance.md lists.
//!
//! `cargo xtask test --only cortex-m4` and `cargo xtask bench --board mps2-an386` build and run it. Text goes to the debugger
//! (semihosting); the counter is a file that the emulator's plugin counts into and the debugger reads for us.
#![no_std]
#![no_main]

mod check;
mod count;
mod memory;
#[path = "../../../runtime/core/src/linear/tests/samples.rs"]
#[allow(missing_docs, reason = "a file of another crate's tests")]
mod samples;
mod semihosting;

use core::fmt::Write;
use semihosting::{Console, exit};

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut line = [0; 64];
    let passed = match semihosting::arguments(&mut line) {
        "check" => check::run(),
        "count" => count::run(),
        other => {
            let _ = writeln!(Console, "failed: no such task: {other:?}; check or count");
            false
        }
    };
    exit(passed)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "failed: {info}");
    exit(false)
}

/// Faults end the run instead of hanging it.
#[cortex_m_rt::exception(trampoline = false)]
unsafe fn HardFault() -> ! {
    let _ = writeln!(Console, "failed: hard fault");
    exit(false)
}
