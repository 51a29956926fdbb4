//! SysTick in an emulator that gives an instruction one nanosecond (`-icount shift=0`): time is instructions, in steps of a tick.

use crate::board::CLOCK_HZ;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

/// It has 24 bits.
pub(super) const MASK: u32 = 0x00ff_ffff;

pub(super) fn begin() {
    // SAFETY: this firmware owns the core's peripherals, and takes this one only here.
    let mut timer = unsafe { cortex_m::Peripherals::steal() }.SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(MASK);
    timer.clear_current();
    timer.enable_counter();
}

/// It counts down.
pub(super) fn ticks() -> u32 {
    MASK - SYST::get_current()
}

pub(super) fn scale(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000) / u64::from(CLOCK_HZ)
}
