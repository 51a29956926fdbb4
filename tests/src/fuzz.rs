//! A small mutation fuzzer that needs nothing but stable Rust, so that every test run fuzzes a little.
//!
//! Each target has a folder of seeds under `tests/corpus/`. A run first replays them as they are, then
//! mutates them for as long as it is told. The sequence depends on the target's name alone, so a failure
//! comes back on the next run. An input that panics, takes too long or holds too much memory is written
//! to a file, and the test fails with its name: fix the reader, then move the file into the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::memory::PeakAllocator;

/// The longest that one input may take, on a slow emulated board too. Inputs are small, and readers linear.
const SLOWEST: Duration = Duration::from_secs(60);

/// What one input may hold: this many bytes, and a multiple of its own length.
const MOST_BYTES: usize = 64 << 20;
const MOST_BYTES_PER_INPUT_BYTE: usize = 4096;

/// Inputs longer than this are cut: what a reader gets wrong, it gets wrong on small files too.
const LONGEST_INPUT: usize = 1 << 20;

/// Fuzzes one reader.
pub struct Target<'a> {
    /// The name of the target and of its corpus folder.
    pub name: &'a str,
    /// How memory is measured.
    pub memory: &'static PeakAllocator,
    /// The reader. It may return any error; it may not panic.
    pub read: fn(&[u8]),
}

impl Target<'_> {
    /// Replays the corpus and then mutates it for `FURLONG_FUZZ_SECONDS` seconds (4 if unset).
    ///
    /// # Panics
    /// With the path of the saved input, when the reader failed on it.
    pub fn run(&self) {
        let seeds = self.seeds();
        assert!(
            !seeds.is_empty(),
            "tests/corpus/{} holds no seed",
            self.name
        );
        for seed in &seeds {
            self.check(seed);
        }
        let seconds = std::env::var("FURLONG_FUZZ_SECONDS")
            .ok()
            .and_then(|s| s.parse().ok());
        let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(4));
        let mut random = Random::new(self.name);
        let mut inputs = 0u64;
        while Instant::now() < until {
            self.check(&mutate(&seeds, &mut random));
            inputs += 1;
        }
        println!(
            "{}: {} seeds, {inputs} mutated inputs",
            self.name,
            seeds.len()
        );
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| entry.expect("readable folder entry").path())
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| std::fs::read(file).expect("readable seed"))
            .collect()
    }

    /// Runs the reader on one input in a thread of its own, so that a hang is seen too.
    fn check(&self, input: &[u8]) {
        let (done, result) = mpsc::channel();
        let held_before = self.memory.start();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(input)));
                // The receiver is gone only when the time was up.
                let _ = done.send(outcome.is_ok());
            });
            match result.recv_timeout(SLOWEST) {
                Ok(true) => {}
                Ok(false) => self.fail(input, "panicked"),
                // A hanging thread can't be ended: end the process, after saying why.
                Err(_) => {
                    eprintln!(
                        "{}: took over {SLOWEST:?} on {}",
                        self.name,
                        self.save(input).display()
                    );
                    std::process::abort();
                }
            }
        });
        let held = self.memory.peak_bytes().saturating_sub(held_before);
        if held > MOST_BYTES + input.len() * MOST_BYTES_PER_INPUT_BYTE {
            self.fail(input, &format!("held {} MiB", held >> 20));
        }
    }

    fn fail(&self, input: &[u8], what: &str) -> ! {
        panic!("{}: {what} on {}", self.name, self.save(input).display());
    }

    fn save(&self, input: &[u8]) -> PathBuf {
        let folder = std::env::temp_dir().join("furlong-fuzz");
        let file = folder.join(format!("{}-{:016x}", self.name, fingerprint(input)));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        std::fs::write(&file, input).expect("failing input saved");
        file
    }
}

/// FNV-1a, for names only.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// xorshift64*, seeded by a name (Vigna, «An experimental exploration of Marsaglia's xorshift generators»).
struct Random(u64);

impl Random {
    fn new(name: &str) -> Self {
        Self(fingerprint(name.as_bytes()) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 {
            0
        } else {
            (self.next() % limit as u64) as usize
        }
    }
}

/// Numbers at which readers go wrong: limits, signs, and lengths just past a buffer.
const INTERESTING: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let width = 1 << random.below(4);
                let number = INTERESTING[random.below(INTERESTING.len())].to_le_bytes();
                for (byte, new) in bytes.iter_mut().skip(at).zip(&number[..width]) {
                    *byte = *new;
                }
            }
            4 => {
                let end = at + random.below((bytes.len() - at).min(64));
                bytes.drain(at..end);
            }
            5 => {
                let piece = bytes[at..at + random.below((bytes.len() - at).min(64))].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece = &other[from..from + random.below(other.len() - from)];
                bytes.truncate(at);
                bytes.extend_from_slice(piece);
            }
            _ => {
                // Text formats break on their punctuation more than on random bytes.
                let marks = b"{}[]\",:%-0919e.\\\n";
                bytes.insert(at, marks[random.below(marks.len())]);
            }
        }
    }
    bytes.truncate(LONGEST_INPUT);
    bytes
}
