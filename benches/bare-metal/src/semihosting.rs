//! What the debugger, here the emulator, does for the program: write text, read a file, end.
//!
//! Arm, «Semihosting for AArch32 and AArch64», 2.0.

use core::arch::asm;
use core::fmt;

const OPEN: usize = 0x01;
const WRITE0: usize = 0x04;
const READ: usize = 0x06;
const SEEK: usize = 0x0A;
const GET_COMMAND_LINE: usize = 0x15;
const EXIT: usize = 0x18;
const EXIT_EXTENDED: usize = 0x20;
/// Why the program ends: as it should.
const APPLICATION_EXIT: usize = 0x2_0026;

/// # Safety
/// `argument` must be what the operation asks for.
unsafe fn call(operation: usize, argument: usize) -> isize {
    let mut result = operation;
    // SAFETY: the caller's promise. The debugger may read and write the memory that the argument names.
    unsafe {
        asm!("bkpt #0xAB", inout("r0") result, in("r1") argument, options(nostack));
    }
    result as isize
}

/// Where text goes.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut buffer = [0u8; 128];
        for piece in text.as_bytes().chunks(buffer.len() - 1) {
            buffer.fill(0);
            buffer.iter_mut().zip(piece).for_each(|(to, &b)| *to = b);
            // SAFETY: text that a zero ends.
            unsafe { call(WRITE0, buffer.as_ptr() as usize) };
        }
        Ok(())
    }
}

/// Ends the program.
pub fn exit(success: bool) -> ! {
    let block = [APPLICATION_EXIT, usize::from(!success)];
    loop {
        // SAFETY: reason and status. Where the first call isn't known, the second ends all the same.
        unsafe {
            call(EXIT_EXTENDED, block.as_ptr() as usize);
            call(EXIT, APPLICATION_EXIT);
        }
    }
}

/// What the emulator was told after the program's name.
pub fn arguments(line: &mut [u8; 64]) -> &str {
    let block = [line.as_mut_ptr() as usize, line.len()];
    // SAFETY: a buffer and its length, where the length that is used comes back.
    let failed = unsafe { call(GET_COMMAND_LINE, block.as_ptr() as usize) } != 0;
    let end = line.iter().position(|&b| b == 0).unwrap_or(line.len());
    let text = core::str::from_utf8(line.get(..end).unwrap_or_default()).unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    // The first word is the program.
    words.nth(1).filter(|_| !failed).unwrap_or_default()
}

/// The file that the emulator's plugin counts instructions into.
pub struct Counter(isize);

impl Counter {
    /// Opens `counter` in the emulator's folder; `None` where there is none.
    pub fn open() -> Option<Counter> {
        let name = b"counter\0";
        // 1: for reading, in binary.
        let block = [name.as_ptr() as usize, 1, name.len() - 1];
        // SAFETY: a name that a zero ends, the mode, and the name's length.
        let handle = unsafe { call(OPEN, block.as_ptr() as usize) };
        (handle >= 0).then_some(Counter(handle))
    }

    /// Instructions since the board was started.
    #[inline(never)]
    pub fn read(&self) -> u64 {
        let mut bytes = [0u8; 8];
        let seek = [self.0 as usize, 0];
        let read = [self.0 as usize, bytes.as_mut_ptr() as usize, bytes.len()];
        // SAFETY: an open file, a place in it; a buffer and its length.
        unsafe {
            call(SEEK, seek.as_ptr() as usize);
            call(READ, read.as_ptr() as usize);
        }
        u64::from_le_bytes(bytes)
    }
}
