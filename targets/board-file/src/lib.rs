//! One file a board in `targets/boards/`, read here for everybody who needs to know a board: `cargo xtask` (build, flash, run),
//! `furlong plan` (does a model fit?) and the firmware's build script (linker script, transport).
//!
//! A board that runs Linux says only how a program gets there. One without an operating system also has its memory map and a
//! transport: what carries text in, and answers and logs out.

use serde::Deserialize;
use std::path::PathBuf;
use std::{fs, io};

mod memory;

pub use memory::{Memory, Region};

/// One board, as its file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardFile {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub id: String,
    /// What it is, in words.
    pub name: String,
    /// The processor core.
    pub core: String,
    /// What Rust calls it; `host` builds for the machine we are on.
    pub triple: String,
    /// How a program gets there and runs.
    pub run: Run,
    /// For a board without an operating system: what it has.
    pub bare_metal: Option<BareMetal>,
}

/// What the firmware and the planner must know of a board without an operating system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BareMetal {
    /// `-C target-cpu`: what instructions the compiler may use.
    pub target_cpu: String,
    /// Where flash and RAM lie.
    pub memory: Memory,
    /// What carries text in, and answers and logs out.
    pub transport: Transport,
    /// What counts the work done.
    pub counter: Counter,
    /// What the boot ROM wants to find in the image besides a vector table.
    pub boot: Option<Boot>,
}

/// What carries text in, and answers and logs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Transport {
    /// The emulator's standard input and output.
    Semihosting,
    /// Ring buffers in RAM, read and written by the debug probe (SEGGER's Real-Time Transfer).
    Rtt,
    /// An Arm PL011 serial port of a Raspberry Pi, on pins 8 and 10 of its header.
    Pl011 {
        /// Address of its registers.
        base: u64,
        /// Address of the pins' registers.
        gpio: u64,
        /// Frequency of the clock that the boot loader gives it.
        clock_hz: u32,
        /// Speed of the line.
        baud: u32,
    },
}

/// What counts the work done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Counter {
    /// Cycles, by the debug unit of a Cortex-M3 and up.
    Dwt,
    /// Cycles, by the performance monitor of a Cortex-A.
    Pmu,
    /// SysTick. Under emulation with `-icount shift=0` an instruction takes a nanosecond, so that a timer counts instructions.
    SysTick {
        /// Frequency of the processor clock.
        hz: u32,
    },
    /// TIMER0 of an nRF51, which has no SysTick; otherwise the same.
    Nrf51Timer,
}

/// What a boot ROM wants to find in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// The RP2350's image definition block.
    Rp2350,
}

/// How a board gets a program and runs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Run {
    /// Right here.
    Host,
    /// In QEMU's user mode. Time means nothing there: instructions are counted instead.
    Emulated {
        /// QEMU's name for the core.
        cpu: String,
    },
    /// On a machine reached over ssh.
    Ssh {
        /// The variable that holds the address, `user@host`.
        address_variable: String,
        /// Where it lies on the board.
        folder: String,
    },
    /// In QEMU, which stands for the whole board.
    EmulatedMachine {
        /// QEMU's program.
        emulator: String,
        /// QEMU's name for the board.
        machine: String,
        /// QEMU's name for the core.
        cpu: String,
    },
    /// Flashed and watched through a debug probe, by probe-rs.
    Probe {
        /// probe-rs's name for the chip.
        chip: String,
    },
    /// Copied to the drive that the board's boot ROM shows over USB; with a probe at hand, as `Probe`.
    Uf2 {
        /// The family number in the file's blocks.
        family: u32,
        /// The drive's volume label.
        volume: String,
        /// probe-rs's name for the chip.
        chip: String,
    },
    /// Copied to an SD card; text goes over a serial line.
    SdCard {
        /// The image's name on the card.
        file: String,
        /// The variable that holds the card's mounted folder.
        card_variable: String,
        /// The variable that holds the serial port, such as /dev/ttyUSB0.
        serial_variable: String,
    },
}

impl BoardFile {
    /// Reads the file called `id` from the folder of boards.
    ///
    /// # Errors
    /// Lists the boards there are when it isn't one of them; says where a file is wrong.
    pub fn load(folder: &std::path::Path, id: &str) -> Result<Self, BoardFileError> {
        let known = Self::ids(folder)?;
        if !known.iter().any(|known| known == id) {
            return Err(BoardFileError::Unknown {
                id: id.to_string(),
                known: known.join(", "),
            });
        }
        let file = folder.join(format!("{id}.toml"));
        let text = fs::read_to_string(&file)
            .map_err(|source| BoardFileError::Unreadable { path: file, source })?;
        Self::parse(id, &text)
    }

    /// Reads what a board's file holds, and checks its memory map.
    ///
    /// # Errors
    /// When it isn't what a board's file must be, with the line, or its memory map contradicts itself.
    pub fn parse(id: &str, text: &str) -> Result<Self, BoardFileError> {
        let board: Self = toml::from_str(text).map_err(|source| BoardFileError::Malformed {
            id: id.to_string(),
            source: Box::new(source),
        })?;
        if let Some(bare_metal) = &board.bare_metal {
            bare_metal
                .memory
                .check()
                .map_err(|reason| BoardFileError::Memory {
                    id: id.to_string(),
                    reason,
                })?;
        }
        Ok(Self {
            id: id.to_string(),
            ..board
        })
    }

    /// The names of all boards in a folder, sorted.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn ids(folder: &std::path::Path) -> Result<Vec<String>, BoardFileError> {
        let files = fs::read_dir(folder).map_err(|source| BoardFileError::Unreadable {
            path: folder.to_path_buf(),
            source,
        })?;
        let mut ids: Vec<String> = files
            .flatten()
            .filter_map(|file| {
                file.file_name()
                    .to_str()?
                    .strip_suffix(".toml")
                    .map(String::from)
            })
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Whether instructions are what can be measured there, not time.
    pub fn counts_instructions(&self) -> bool {
        matches!(self.run, Run::Emulated { .. } | Run::EmulatedMachine { .. })
    }
}

/// Why a board's file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardFileError {
    /// There is no such file.
    #[error("no board is called {id}; there are: {known}")]
    Unknown {
        /// The name asked for.
        id: String,
        /// The names there are.
        known: String,
    },
    /// The file or folder can't be read.
    #[error("reading {path}: {source}", path = path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text isn't what a board's file must be.
    #[error("board {id}: {source}")]
    Malformed {
        /// The board.
        id: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The memory map contradicts itself.
    #[error("board {id}, bare_metal.memory: {reason}; see the chip's data sheet")]
    Memory {
        /// The board.
        id: String,
        /// Why.
        reason: String,
    },
}
