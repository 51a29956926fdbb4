//! Whether a plan fits a board, and if not, what would make it fit.

use anyhow::Result;
use furlong_core::Feature;
use furlong_runtime::{Certificate, KvFormat, LoweredModel};
use serde::Serialize;

use super::board::Board;
use crate::text;

/// A plan beside a board.
#[derive(Debug, Serialize)]
pub struct Fit {
    /// The board.
    pub board: String,
    /// Whether flash and RAM are enough.
    pub fits: bool,
    /// Bytes that a plan may have there.
    pub board_flash_bytes: u64,
    /// Bytes that arena and stack may have there together.
    pub board_ram_bytes: u64,
    /// Bytes of the plan.
    pub flash_bytes: u64,
    /// Bytes of arena and stack.
    pub ram_bytes: u64,
    /// What would make it fit, the least change first.
    pub suggestions: Vec<Suggestion>,
}

/// Options that make a plan fit.
#[derive(Debug, Serialize)]
pub struct Suggestion {
    /// As they are given to `furlong plan`.
    pub options: String,
    /// Bytes of arena and stack then.
    pub ram_bytes: u64,
}

impl Fit {
    /// Compares a certificate with a board; looks for other sizes where RAM is short.
    ///
    /// # Errors
    /// A model whose memory can't be counted.
    pub fn of(
        board: &Board,
        lowered: &LoweredModel,
        certificate: &Certificate,
        needs: &[Feature],
        kv: KvFormat,
    ) -> Result<Fit> {
        let board_flash_bytes = board.flash_bytes(needs);
        let ram_bytes = ram(certificate);
        let flash_bytes = certificate.flash_bytes as u64;
        let mut fit = Fit {
            board: board.id.clone(),
            fits: flash_bytes <= board_flash_bytes && ram_bytes <= board.ram_bytes,
            board_flash_bytes,
            board_ram_bytes: board.ram_bytes,
            flash_bytes,
            ram_bytes,
            suggestions: Vec::new(),
        };
        // Features are as many as the graph says: nothing about them can be chosen.
        if ram_bytes > board.ram_bytes && certificate.kind != "features" {
            fit.suggestions = suggestions(board.ram_bytes, lowered, certificate, kv)?;
        }
        Ok(fit)
    }

    /// What the board is short of.
    pub fn what_is_too_much(&self) -> String {
        let mut lacks = Vec::new();
        let mut compare = |what: &str, needed: u64, there: u64| {
            if needed > there {
                let (needed, there) = (text::bytes(needed), text::bytes(there));
                lacks.push(format!(
                    "it needs {needed} of {what}, and there are {there}"
                ));
            }
        };
        compare("flash", self.flash_bytes, self.board_flash_bytes);
        compare(
            "RAM (arena and stack)",
            self.ram_bytes,
            self.board_ram_bytes,
        );
        format!("the plan does not fit {}: {}", self.board, lacks.join("; "))
    }

    /// What to do about it.
    pub fn advice(&self) -> String {
        let mut advice = Vec::new();
        if self.flash_bytes > self.board_flash_bytes {
            let short = text::bytes(self.flash_bytes - self.board_flash_bytes);
            advice.push(format!(
                "flash is short of {short}: export with `--weights q4`, or take a smaller model or a board with more flash"
            ));
        }
        if self.ram_bytes > self.board_ram_bytes {
            let ways = self
                .suggestions
                .iter()
                .map(|way| format!("{} takes {}", way.options, text::bytes(way.ram_bytes)));
            let ways: Vec<String> = ways.collect();
            advice.push(match ways.is_empty() {
                true => "RAM is short even with the least context, cache and tile: take a smaller model or a board with more RAM".to_owned(),
                false => format!("RAM: {}", ways.join("; ")),
            });
        }
        advice.join("; ")
    }
}

/// Bytes of arena and stack.
fn ram(certificate: &Certificate) -> u64 {
    (certificate.arena_bytes + certificate.stack_bytes) as u64
}

/// Sizes with which arena and stack have at most `room` bytes: the context kept if it can be, else the longest that fits.
fn suggestions(
    room: u64,
    lowered: &LoweredModel,
    certificate: &Certificate,
    kv: KvFormat,
) -> Result<Vec<Suggestion>> {
    let (context, tile) = (certificate.context, certificate.tile);
    // An encoder has no cache, and reads a sentence whole.
    let decodes = certificate.kind == "decoder";
    let caches = match kv {
        other if decodes && other != KvFormat::Q8 => vec![other, KvFormat::Q8],
        other => vec![other],
    };
    let tiles = if decodes && tile > 1 {
        vec![tile, 1]
    } else {
        vec![tile]
    };
    let needs = |context: usize, tile: usize, kv: KvFormat| -> Result<u64> {
        Ok(ram(&lowered.certificate_with(context, tile, kv)?))
    };
    let mut found = Vec::new();
    for &kv in &caches {
        for &tile in &tiles {
            // The longest context that fits; memory grows with it.
            let (mut fits, mut too_long) = (0, context + 1);
            while too_long - fits > 1 {
                let middle = fits + (too_long - fits) / 2;
                match needs(middle, tile, kv)? <= room {
                    true => fits = middle,
                    false => too_long = middle,
                }
            }
            if fits > 0 {
                found.push((fits, kv, tile));
            }
        }
    }
    // Those that keep the context come first.
    found.sort_by_key(|&(fits, ..)| std::cmp::Reverse(fits));
    let suggestion = |(fits, to_kv, to_tile): (usize, KvFormat, usize)| {
        let mut options = Vec::new();
        if fits != context {
            options.push(format!("--context {fits}"));
        }
        if to_kv != kv {
            options.push("--kv q8".to_owned());
        }
        if to_tile != tile {
            options.push(format!("--tile {to_tile}"));
        }
        Ok(Suggestion {
            options: options.join(" "),
            ram_bytes: needs(fits, to_tile, to_kv)?,
        })
    };
    found.into_iter().map(suggestion).collect()
}
