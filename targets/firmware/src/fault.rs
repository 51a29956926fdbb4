//! What happens when nothing else helps: a panic or a fault is reported over defmt, then the program ends.

use crate::end;

/// The status of a program that panicked.
const PANICKED: u8 = 101;
/// The status of one that the processor stopped.
#[cfg(target_arch = "arm")]
const FAULTED: u8 = 102;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let (file, line) = info
        .location()
        .map_or(("somewhere", 0), |place| (place.file(), place.line()));
    // The message itself would draw core's formatting into every image that can panic at all.
    defmt::error!("panic at {=str}:{=u32}", file, line);
    end::exit(PANICKED)
}

/// defmt's own panics have said why already.
#[defmt::panic_handler]
fn defmt_panic() -> ! {
    end::exit(PANICKED)
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    defmt::error!(
        "fault at {=u32:#010x}, called from {=u32:#010x}",
        frame.pc(),
        frame.lr()
    );
    end::exit(FAULTED)
}

/// Called by the vectors of start/aarch64.rs.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
extern "C" fn furlong_exception(syndrome: u64, address: u64, place: u64) -> ! {
    defmt::error!(
        "exception at {=u64:#x}: syndrome {=u64:#x}, address {=u64:#x}",
        place,
        syndrome,
        address
    );
    end::exit(102)
}
