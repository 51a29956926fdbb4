//! An allocator that remembers the most memory that was held at once, so that a test can say
//! «this input must not make the program ask for gigabytes».
//!
//! ```ignore
//! #[global_allocator]
//! static MEMORY: PeakAllocator = PeakAllocator::new();
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system allocator with a count of the bytes held now and at most.
pub struct PeakAllocator {
    held_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

impl PeakAllocator {
    /// An allocator that has handed out nothing yet.
    pub const fn new() -> Self {
        Self {
            held_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
        }
    }

    /// Starts a new measurement: the peak becomes what is held now, which is returned.
    pub fn start(&self) -> usize {
        let held = self.held_bytes.load(Ordering::Relaxed);
        self.peak_bytes.store(held, Ordering::Relaxed);
        held
    }

    /// The most bytes held since [`start`](Self::start).
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    fn grew(&self, bytes: usize) {
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak_bytes.fetch_max(held, Ordering::Relaxed);
    }

    fn shrank(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for PeakAllocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every call is passed on to the system allocator unchanged; only counters are kept.
unsafe impl GlobalAlloc for PeakAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            self.grew(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.shrank(layout.size());
        // SAFETY: `block` came from `alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
