//! The commands, one a file.

pub mod bench;
mod bench_encoder;
pub mod chat;
pub mod classify;
pub mod doctor;
pub mod embed;
pub mod infer;
pub mod inspect;
pub mod pack;
pub mod perplexity;
pub mod plan;
pub mod run;
