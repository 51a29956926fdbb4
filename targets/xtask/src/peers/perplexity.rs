//! Perplexity on one text: ours beside llama.cpp's, each format against its own f32.

use super::{Options, Section, llama};
use crate::board::Builder;
use crate::models::{self, Base};
use crate::shell::say;
use crate::test::parity::perplexity_of;
use crate::{build, fetch};
use anyhow::Result;

/// Measures and compares.
///
/// # Errors
/// When a model can't be made or run.
pub fn compare(_: &Options) -> Result<Section> {
    let text = fetch::english_text()?;
    let exporter = models::exporter(&Builder::Host)?;
    let program = build::furlong(&Builder::Host)?;
    let mut rows = Vec::new();
    for weights in ["f32", "q8", "q4"] {
        say(format!("peers: perplexity of furlong {weights}"));
        let found = perplexity_of(
            &program,
            &models::export(&exporter, Base::SmolLm2, weights)?,
            &text,
            None,
        )?;
        rows.push((format!("furlong {weights}"), found.perplexity));
    }
    let ours = rows.len();
    for format in ["F32", "F16", "Q8_0", "Q4_1", "Q4_0"] {
        say(format!("peers: perplexity of llama.cpp {format}"));
        rows.push((
            format!("llama.cpp {format}"),
            llama::perplexity(format, &text)?,
        ));
    }
    let mut table = String::from("\n| weights | perplexity | against its f32 |\n|---|---:|---:|\n");
    for (index, (name, perplexity)) in rows.iter().enumerate() {
        let base = rows[if index < ours { 0 } else { ours }].1;
        let worse = (perplexity / base - 1.0) * 100.0;
        table += &format!("| {name} | {perplexity:.3} | {worse:+.2} % |\n");
    }
    Section::new(table, &rows)
}
