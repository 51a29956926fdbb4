//! One file a command.

pub mod answering;
pub mod compare;
pub mod data;
pub mod evaluate;
pub mod export;
pub mod home_commands;
#[cfg(feature = "train")]
pub mod train;
