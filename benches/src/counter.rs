//! The count of instructions executed so far, in an emulator with `targets/xtask/plugin/count.c` loaded.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// A counter of guest instructions. The emulator keeps it in a file that this program maps, so reading it costs one load.
#[derive(Debug)]
pub struct Counter(Mmap);

impl Counter {
    /// Opens the counter that the emulator was told to keep in `file`.
    ///
    /// # Errors
    /// When the file can't be mapped or is too short to hold a counter.
    pub fn open(file: &Path) -> io::Result<Self> {
        // SAFETY: the file exists for the emulator to count in; nothing shortens it while we run, and it is
        // read by volatile loads only.
        let map = unsafe { Mmap::map(&File::open(file)?)? };
        if map.len() < size_of::<u64>() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a counter has eight bytes",
            ));
        }
        Ok(Self(map))
    }

    /// Instructions executed so far, as of the current block of code.
    pub fn read(&self) -> u64 {
        let address = self.0.as_ptr().cast::<u64>();
        // SAFETY: a mapping begins at a page, so the address is aligned, and `open` has seen that eight bytes are there.
        unsafe { address.read_volatile() }
    }
}
