//! How far a long command is, for someone who looks on.

use std::io::{self, IsTerminal};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, in indicatif's notation; hidden where that is no terminal.
///
/// # Errors
/// A template that indicatif doesn't understand.
pub fn bar(steps: usize, template: &str) -> Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template(template)?;
    Ok(ProgressBar::new(u64::try_from(steps)?).with_style(style))
}
