//! Cycles, by the performance monitor of a Cortex-A. QEMU counts a cycle for each nanosecond: with `-icount shift=0`, an instruction.

use core::arch::asm;

pub(super) const MASK: u32 = u32::MAX;

pub(super) fn begin() {
    // SAFETY: the cycle counter is nobody else's; these registers touch no memory.
    unsafe {
        asm!(
            "mrs {scratch}, pmcr_el0",
            "orr {scratch}, {scratch}, #1",          // E: counters run
            "msr pmcr_el0, {scratch}",
            "mov {scratch}, #0x80000000",
            "msr pmcntenset_el0, {scratch}",         // C: the cycle counter too
            "msr pmccfiltr_el0, xzr",
            "isb",
            scratch = out(reg) _,
            options(nomem, nostack)
        );
    }
}

pub(super) fn ticks() -> u32 {
    let count: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, pmccntr_el0", out(reg) count, options(nomem, nostack)) };
    // The low half is enough: the sum is kept elsewhere.
    count as u32
}

pub(super) fn scale(ticks: u64) -> u64 {
    ticks
}
