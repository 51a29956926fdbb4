//! TIMER0 of an nRF51, which has no SysTick, in an emulator that gives an instruction one nanosecond (`-icount shift=0`).

/// Registers of TIMER0 (nRF51 Series Reference Manual, chapter 18).
const TIMER0: usize = 0x4000_8000;
const TASKS_START: usize = TIMER0;
const TASKS_CAPTURE0: usize = TIMER0 + 0x040;
const BITMODE: usize = TIMER0 + 0x508;
const PRESCALER: usize = TIMER0 + 0x510;
const CC0: usize = TIMER0 + 0x540;

/// 32 bits at 16 MHz.
pub(super) const MASK: u32 = u32::MAX;

fn write(register: usize, value: u32) {
    // SAFETY: a register of the timer, which only this file uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}

pub(super) fn begin() {
    write(BITMODE, 3);
    write(PRESCALER, 0);
    write(TASKS_START, 1);
}

pub(super) fn ticks() -> u32 {
    write(TASKS_CAPTURE0, 1);
    // SAFETY: as above.
    unsafe { (CC0 as *const u32).read_volatile() }
}

pub(super) fn scale(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000) / 16
}
