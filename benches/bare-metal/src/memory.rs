//! All RAM that nothing else uses, as one slice.

/// What is left for the stack: a quarter of the RAM, at most this.
const MOST_STACK_BYTES: usize = 48 * 1024;

unsafe extern "C" {
    /// Where the program's own variables end: cortex-m-rt's linker script.
    static mut __sheap: u32;
    /// Where the stack starts, growing down.
    static _stack_start: u32;
}

/// The RAM from the program's variables to the stack.
///
/// # Safety
/// To be called once.
pub unsafe fn rest() -> &'static mut [f32] {
    let first = (&raw mut __sheap).cast::<f32>();
    let end = (&raw const _stack_start) as usize;
    let last = end - ((end - first as usize) / 4).min(MOST_STACK_BYTES);
    // SAFETY: nothing else lies there, and any bits are floats. Called once, as promised.
    unsafe { core::slice::from_raw_parts_mut(first, (last - first as usize) / 4) }
}
