//! How fast this machine reads memory: the ceiling of decoding, which reads every weight once a token.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Enough to be far larger than the caches of a board or a workstation, in bytes.
const BUFFER_BYTES: usize = 256 << 20;
/// How many passes over the buffer; the fastest counts, since others only add noise.
const PASSES: usize = 7;
/// No further passes after this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Measures read bandwidth with this many threads, in GB (10⁹ bytes) a second: the best of a few passes that sum up a
/// buffer far larger than the caches.
pub fn read_gb_s(threads: NonZeroUsize) -> f64 {
    let words = buffer_bytes() / size_of::<u64>();
    // Written to, so that every page is there.
    let buffer: Vec<u64> = (0..words as u64).collect();
    let share = words.div_ceil(threads.get()).max(1);
    let start = Instant::now();
    let mut best = Duration::MAX;
    for _ in 0..PASSES {
        best = best.min(pass(&buffer, share));
        if start.elapsed() > PATIENCE {
            break;
        }
    }
    let bytes = (words * size_of::<u64>()) as f64;
    bytes / best.as_secs_f64() / 1e9
}

/// One pass of all threads over their shares, from the moment all are ready to the moment the last is done.
fn pass(buffer: &[u64], share: usize) -> Duration {
    let shares: Vec<&[u64]> = buffer.chunks(share).collect();
    let ready = Barrier::new(shares.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    let start = Instant::now();
                    std::hint::black_box(sum(share));
                    (start, Instant::now())
                })
            })
            .collect();
        let times: Vec<_> = workers.into_iter().filter_map(|w| w.join().ok()).collect();
        let first = times.iter().map(|(start, _)| *start).min();
        let last = times.iter().map(|(_, end)| *end).max();
        match (first, last) {
            (Some(first), Some(last)) => last.duration_since(first),
            _ => Duration::MAX,
        }
    })
}

/// Adds up all words, in lanes enough to keep several loads under way.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 16];
    for chunk in words.chunks_exact(lanes.len()) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// At most a quarter of the memory that is free: a small board has to stay alive.
fn buffer_bytes() -> usize {
    match super::clock::available_bytes() {
        Some(free) => BUFFER_BYTES.min(usize::try_from(free / 4).unwrap_or(BUFFER_BYTES)),
        None => BUFFER_BYTES,
    }
}
