//! Handing memory back that loading a model used and running it does not.

/// Returns freed memory to the system. The C library of most distributions keeps it for later, and reading a vocabulary
/// takes several times what a session of the model does.
pub fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
