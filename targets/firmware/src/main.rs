//! The firmware: a line of text in, its answer out.
#![no_std]
#![no_main]

use furlong_firmware::board;
use furlong_firmware::serve::serve;

furlong_firmware::main!(run);

fn run() -> u8 {
    // Boards that have a watchdog running feed it here; none of ours start one.
    serve(board::plan(), || {})
}
