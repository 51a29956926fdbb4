//! The firmware: a line of text in, its answer out.
#![no_std]
#![no_main]

use furlong_firmware::commands::Commands;
use furlong_firmware::{board, counter, memory, transport};

furlong_firmware::main!(run);

fn run() -> u8 {
    defmt::info!(
        "{=str}: {=usize} bytes of RAM for an arena",
        board::NAME,
        memory::arena().len()
    );
    let mut commands = Commands::new();
    while commands.next_line().is_some() {
        let begin = counter::now();
        transport::write("{\"error\":\"no plan is linked in\"}\n");
        commands.poll();
        defmt::info!(
            "{=u64} {=str}, stack {=usize} of {=usize} bytes",
            counter::now() - begin,
            counter::UNIT,
            memory::stack_high_water(),
            memory::stack_size()
        );
    }
    0
}
