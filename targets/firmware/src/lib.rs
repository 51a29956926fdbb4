//! What a program for a board without an operating system needs around `furlong-core`: a start, memory, a transport, logs, an end.
//!
//! A program is a function that is given to [`main!`]; [`serve`] is what the firmware itself does. From the outside in:
//!
//! - [`serve`] reads prompts, steps through the model and writes answers.
//! - [`transport`] carries text and logs; [`commands`] makes lines of what comes in and keeps those that wait.
//! - [`memory`] hands out the RAM that nothing else uses, and tells how deep the stack was; [`counter`] counts cycles or
//!   instructions.
//! - `start`, `logger` and `fault` are what is below: from reset to `main`, defmt's frames, and what happens when nothing else helps.
//!
//! Which of several ways is built in (transport, counter, end) comes from the board's file: see build.rs. There is one core, no
//! interrupt is enabled, and nothing allocates.
#![no_std]

pub mod board;
pub mod commands;
pub mod counter;
pub mod end;
mod fault;
mod logger;
pub mod memory;
mod profile;
pub mod serve;
mod single;
mod start;
pub mod transport;

/// Everything before the program's own first line: transport and counter are ready, the stack is painted.
#[doc(hidden)]
pub fn begin() {
    memory::paint_stack();
    start::begin();
    transport::begin();
    counter::begin();
}

/// Makes `fn() -> u8` the program: it starts at reset, and what it gives is the exit status where there is something to exit to.
#[macro_export]
macro_rules! main {
    ($function:path) => {
        // SAFETY: the start code calls this once, and no other function has that name.
        #[unsafe(export_name = "main")]
        extern "C" fn __furlong_main() -> ! {
            $crate::begin();
            let program: fn() -> u8 = $function;
            $crate::end::exit(program())
        }
    };
}
