//! How much work was done: cycles on silicon, instructions under emulation.
//!
//! The counters are short: they wrap around. [`now`] keeps the sum in 64 bits, and must be called at least once a wrap (half a
//! second at worst), which a call between two steps of a model does.

use crate::single::Single;

#[cfg(counter = "dwt")]
#[path = "counter/dwt.rs"]
mod device;
#[cfg(counter = "nrf51-timer")]
#[path = "counter/nrf51_timer.rs"]
mod device;
#[cfg(counter = "pmu")]
#[path = "counter/pmu.rs"]
mod device;
#[cfg(counter = "sys-tick")]
#[path = "counter/sys_tick.rs"]
mod device;

/// What is counted.
pub const UNIT: &str = if cfg!(end = "semihosting") {
    "instructions"
} else {
    "cycles"
};

/// The last reading and the ticks until then.
static SUM: Single<(u32, u64)> = Single::new((0, 0));

pub(crate) fn begin() {
    device::begin();
    SUM.with(|sum| *sum = (device::ticks(), 0));
}

/// What was counted since the start.
pub fn now() -> u64 {
    let ticks = SUM.with(|(last, sum)| {
        let now = device::ticks();
        *sum += u64::from(now.wrapping_sub(*last) & device::MASK);
        *last = now;
        *sum
    });
    device::scale(ticks.unwrap_or(0))
}
