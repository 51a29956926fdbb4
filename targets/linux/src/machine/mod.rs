//! What this machine is and what it can do: processors, clocks, memory.

pub mod bandwidth;
pub mod clock;
pub mod cores;
pub mod cpu;
pub mod memory;
