//! RAM that the linker has given to nobody, and how deep the stack was.

use crate::single::Single;
use core::ptr::{addr_of, addr_of_mut};

// The linker's symbols: their addresses are what they say.
unsafe extern "C" {
    /// The lowest address of the stack.
    static mut _stack_end: u32;
    /// One beyond its highest.
    static _stack_start: u32;
    /// The first address that no static has.
    static mut __sheap: u8;
    /// One beyond the last of RAM.
    static _ram_end: u8;
}

/// What unused stack holds.
const PAINT: u32 = 0x5afe_57ac;
/// Alignment of the arena: a cache line, and what a plan wants at most.
const ARENA_ALIGN: usize = 64;

static TAKEN: Single<bool> = Single::new(false);

/// All RAM that isn't static or stack, zeroed, once: the arena of a model. The second time it is empty.
pub fn arena() -> &'static mut [u8] {
    let first = TAKEN.with(|taken| !core::mem::replace(taken, true));
    if first != Some(true) {
        return &mut [];
    }
    let start = addr_of_mut!(__sheap);
    let start = start.wrapping_add(start.align_offset(ARENA_ALIGN));
    let length = (addr_of!(_ram_end) as usize).saturating_sub(start as usize);
    // SAFETY: the linker puts nothing between the end of the statics and the end of RAM, the stack lies elsewhere, and the check
    // above lets this happen once. The bytes are written before they are lent.
    unsafe {
        start.write_bytes(0, length);
        core::slice::from_raw_parts_mut(start, length)
    }
}

/// Paints what lies below the caller's frame, so that [`stack_high_water`] can see what was used since.
pub(crate) fn paint_stack() {
    let here = 0u32;
    // This function's own frame and what an interrupt might push stay untouched.
    let top = addr_of!(here) as usize - 256;
    let mut word = addr_of_mut!(_stack_end);
    while (word as usize) < top {
        // SAFETY: a word of the stack below everything that is in use.
        unsafe { word.write_volatile(PAINT) };
        word = word.wrapping_add(1);
    }
}

/// The most stack that was in use since the start, in bytes.
pub fn stack_high_water() -> usize {
    let mut word = addr_of!(_stack_end);
    let top = addr_of!(_stack_start);
    // SAFETY: words of the stack, all of which are memory that was written.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    top as usize - word as usize
}

/// What the stack may take, in bytes.
pub fn stack_size() -> usize {
    addr_of!(_stack_start) as usize - addr_of!(_stack_end) as usize
}
