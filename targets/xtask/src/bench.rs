//! bench
use anyhow::Result;
pub fn run(_b: &str, _f: Option<&str>, _d: bool) -> Result<()> {
    Ok(())
}
