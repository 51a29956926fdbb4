//! Perplexity on one text: ours beside llama.cpp's, each format against its own f32.

use super::llama;
use crate::board::Board;
use crate::models::{self, Base};
use crate::shell::say;
use crate::test::parity::perplexity_of;
use crate::{build, fetch};
use anyhow::Result;

/// Prints the table.
///
/// # Errors
/// When a model can't be made or run.
pub fn compare() -> Result<()> {
    let text = fetch::english_text()?;
    let exporter = models::exporter()?;
    let program = build::furlong(&Board::load("host")?)?;
    let mut rows = Vec::new();
    for weights in ["f32", "q8", "q4"] {
        say(format!("peers: perplexity of furlong {weights}"));
        let found = perplexity_of(
            &program,
            &models::export(&exporter, Base::SmolLm2, weights)?,
            &text,
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
    println!("\n| weights | perplexity | against its f32 |\n|---|---:|---:|");
    for (index, (name, perplexity)) in rows.iter().enumerate() {
        let base = rows[if index < ours { 0 } else { ours }].1;
        println!(
            "| {name} | {perplexity:.3} | {:+.2} % |",
            (perplexity / base - 1.0) * 100.0
        );
    }
    Ok(())
}
