//! From reset to `main`.

#[cfg(target_arch = "aarch64")]
mod aarch64;

/// What the core needs switched on before it is fast.
pub(crate) fn begin() {
    #[cfg(all(target_arch = "arm", end = "debugger", target_feature = "v7"))]
    {
        // A Cortex-M7 starts with its caches off; on the others this bit is nothing. The data cache stays off: the probe reads and
        // writes the buffers of its transport past it.
        // SAFETY: this firmware owns the core's peripherals.
        unsafe { cortex_m::Peripherals::steal() }
            .SCB
            .enable_icache();
    }
}

/// The RP2350's image definition (data sheet, section 5.9.5.1): an Arm program for the secure world, entered by its vector table.
#[cfg(boot = "rp2350")]
#[unsafe(link_section = ".start_block")]
#[used]
static IMAGE_DEFINITION: [u32; 5] = [
    0xffff_ded3, // a block begins
    0x1021_0142, // image type: executable, RP2350, Arm, secure
    0x0000_01ff, // last item, one word before it
    0x0000_0000, // the only block: the next one is itself
    0xab12_3579, // and ends
];
