//! What a board has room for.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use furlong_board_file::{BoardFile, Memory};
use furlong_core::{Feature, IsaKind};

use crate::failure::Hint;

/// The boards that the program was built with, by name.
const BOARDS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// Flash that the firmware itself takes, where it shares it with the plan: vectors, executor, kernels, transport.
const FIRMWARE_FLASH_BYTES: u64 = 96 << 10;
/// The same for a plan that needs no more than [`LEAN`]: `cargo xtask test --only firmware` keeps it so.
const LEAN_FIRMWARE_FLASH_BYTES: u64 = 56 << 10;
/// What decoders need whose layers are quantised and whose embedding is the head.
const LEAN: [Feature; 4] = [Feature::Q4, Feature::Q8, Feature::KvQ8, Feature::KvF16];
/// RAM that the firmware itself takes beside arena and stack: transport, queues, the answer.
const FIRMWARE_RAM_BYTES: u64 = 4 << 10;

/// A board to plan for.
#[derive(Debug)]
pub struct Board {
    /// Its file's name.
    pub id: String,
    /// What weights are packed for.
    pub isa: IsaKind,
    memory: Memory,
    /// Bytes that arena and stack may have together.
    pub ram_bytes: u64,
}

impl Board {
    /// The board of this name, or in this file.
    ///
    /// # Errors
    /// Lists the boards there are when it isn't one of them; a board that runs Linux.
    pub fn load(name: &str) -> Result<Board> {
        let known = BOARDS.iter().find(|(id, _)| *id == name);
        let board = match known {
            Some((id, text)) => BoardFile::parse(id, text)?,
            None if name.ends_with(".toml") => {
                let text =
                    std::fs::read_to_string(name).with_context(|| format!("can't read {name}"))?;
                let id = Path::new(name)
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy();
                BoardFile::parse(&id, &text)?
            }
            None => {
                let bare = BOARDS
                    .iter()
                    .filter(|(_, text)| text.contains("[bare_metal]"));
                let names: Vec<&str> = bare.map(|(id, _)| *id).collect();
                let hint = format!(
                    "the boards are {}; a file like those in targets/boards does too",
                    names.join(", ")
                );
                return Err(anyhow!("no board is called {name}").context(Hint(hint)));
            }
        };
        let Some(bare_metal) = &board.bare_metal else {
            let hint = "copy the model and the program there, and use `furlong run`".to_owned();
            return Err(anyhow!("{name} runs Linux and needs no plan").context(Hint(hint)));
        };
        let memory = bare_metal.memory;
        Ok(Board {
            isa: isa(&board.core)?,
            id: board.id,
            ram_bytes: memory.ram.length.saturating_sub(FIRMWARE_RAM_BYTES),
            memory,
        })
    }

    /// Bytes that a plan may have which needs these parts of the executor.
    pub fn flash_bytes(&self, needs: &[Feature]) -> u64 {
        let firmware = match needs.iter().all(|feature| LEAN.contains(feature)) {
            true => LEAN_FIRMWARE_FLASH_BYTES,
            false => FIRMWARE_FLASH_BYTES,
        };
        match self.memory.plan {
            Some(plan) => plan.length,
            None => self.memory.flash.length.saturating_sub(firmware),
        }
    }
}

/// The instruction set of a core's kernels, as the firmware for it is compiled.
fn isa(core: &str) -> Result<IsaKind> {
    Ok(match core {
        "cortex-m0" | "cortex-m0plus" | "cortex-m3" | "cortex-m23" => IsaKind::Scalar,
        "cortex-m4" | "cortex-m7" | "cortex-m33" => IsaKind::ArmDsp,
        "cortex-m55" | "cortex-m85" => IsaKind::Helium,
        "cortex-a53" | "cortex-a72" => IsaKind::Neon,
        "cortex-a55" | "cortex-a76" => IsaKind::NeonDotprod,
        _ => bail!("no kernels are known for the core {core}; name an instruction set with --isa"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_without_an_operating_system_can_be_planned_for() {
        let mut count = 0;
        for (id, text) in BOARDS {
            match BoardFile::parse(id, text).unwrap().bare_metal {
                Some(_) => {
                    assert!(Board::load(id).unwrap().ram_bytes > 0, "{id}");
                    count += 1;
                }
                None => assert!(Board::load(id).is_err(), "{id}"),
            }
        }
        assert!(count >= 7);
    }
}
