//! Cycles, by the debug unit of a Cortex-M3 and up.

pub(super) const MASK: u32 = u32::MAX;

pub(super) fn begin() {
    // SAFETY: this firmware owns the core's peripherals, and takes them only here.
    let mut core = unsafe { cortex_m::Peripherals::steal() };
    core.DCB.enable_trace();
    cortex_m::peripheral::DWT::unlock();
    core.DWT.enable_cycle_counter();
}

pub(super) fn ticks() -> u32 {
    cortex_m::peripheral::DWT::cycle_count()
}

pub(super) fn scale(ticks: u64) -> u64 {
    ticks
}
