//! A static that is written: sound here because one core runs and no interrupt is enabled.

use core::cell::{Cell, UnsafeCell};

/// A value for one user at a time.
pub(crate) struct Single<T> {
    value: UnsafeCell<T>,
    busy: Cell<bool>,
}

// SAFETY: only the first core runs, without interrupts; `busy` turns away a fault handler that comes in between.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            busy: Cell::new(false),
        }
    }

    /// Runs `use_it` on the value, unless this is called from within another such call.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.busy.replace(true) {
            return None;
        }
        // SAFETY: `busy` was false, so nobody else holds a reference; it stays true until this one is gone.
        let result = use_it(unsafe { &mut *self.value.get() });
        self.busy.set(false);
        Some(result)
    }
}
