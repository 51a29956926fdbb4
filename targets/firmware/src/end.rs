//! The end of a program: an emulator or a debugger gets a status, a board alone stays where it is.

/// Ends the program with a status: 0 for success.
pub fn exit(status: u8) -> ! {
    #[cfg(end = "semihosting")]
    semihosting::process::exit(i32::from(status));
    #[cfg(end = "debugger")]
    {
        if crate::transport::debugger_attached() {
            semihosting::process::exit(i32::from(status));
        }
        halt()
    }
    #[cfg(end = "halt")]
    {
        let _ = status;
        halt()
    }
}

/// Sleeps for ever.
#[cfg(not(end = "semihosting"))]
fn halt() -> ! {
    loop {
        #[cfg(target_arch = "arm")]
        cortex_m::asm::wfi();
        #[cfg(target_arch = "aarch64")]
        // SAFETY: waiting for an event touches no memory.
        unsafe {
            core::arch::asm!("wfe", options(nomem, nostack, preserves_flags));
        }
    }
}
