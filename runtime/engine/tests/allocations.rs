//! How often decoding a token asks for memory.
//!
//! The kernels, the caches and the ops' working memory take none. What is left is tract's: two for the output of
//! each node of its plan, the numbers and the handle that consumers share, and a few for the inputs of the whole.

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use furlong_runtime::{LoadOptions, Model, OnnxModel};

#[path = "../src/decoder_tests/builder.rs"]
#[allow(dead_code, reason = "each test needs a part of it")]
mod builder;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged; only a counter is kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_token_allocates_what_tract_needs_for_each_node_only() {
    let onnx = OnnxModel::from_bytes(&builder::Builder::decoder(builder::Stored::Bits(4)));
    let options = LoadOptions {
        threads: NonZeroUsize::new(1),
        ..LoadOptions::default()
    };
    let model = Model::from_onnx(onnx.unwrap(), &options).unwrap();
    let nodes: usize = model.report().ops.values().sum();
    let mut session = model.session().unwrap();
    // The cache grows at first, and working memory with it.
    session.extend(&[1, 2, 3]).unwrap();
    session.extend(&[4]).unwrap();
    let counts: Vec<usize> = (0..8)
        .map(|token| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            session.extend(&[token]).unwrap();
            ALLOCATIONS.load(Ordering::Relaxed) - before
        })
        .collect();
    println!("{counts:?} allocations a token, {nodes} nodes");
    assert!(
        counts.iter().all(|&count| count <= 2 * nodes + 5),
        "{counts:?}"
    );
}
