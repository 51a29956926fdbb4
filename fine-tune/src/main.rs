//! The `fine-tune` command.
fn main() {}
