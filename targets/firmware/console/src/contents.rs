//! What a program holds: how much of each memory, and which functions. The tests ask it about panics, allocators and code size.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Writes sections and symbols as JSON.
///
/// # Errors
/// When the program can't be read.
pub fn show(program: &Path) -> Result<()> {
    let elf = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let file =
        object::File::parse(&*elf).with_context(|| format!("reading {}", program.display()))?;
    let allocated = |flags| match flags {
        SectionFlags::Elf { sh_flags } => sh_flags & u64::from(object::elf::SHF_ALLOC) != 0,
        _ => false,
    };
    let sections: Vec<_> = file
        .sections()
        .filter(|section| allocated(section.flags()) && section.size() > 0)
        .map(|section| {
            json!({
                "name": section.name().unwrap_or_default(),
                "address": section.address(),
                "bytes": section.size(),
            })
        })
        .collect();
    let symbols: Vec<_> = file
        .symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text)
        .map(|symbol| json!({ "name": symbol.name().unwrap_or_default(), "bytes": symbol.size() }))
        .collect();
    println!("{}", json!({ "sections": sections, "symbols": symbols }));
    Ok(())
}
