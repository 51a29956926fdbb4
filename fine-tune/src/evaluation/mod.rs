//! How good an exported model is: it answers a test set in the runtime that will run it on the device, and the answers are
//! measured.

mod answers;
mod runner;
mod summary;

pub use answers::{Answer, AnswerWriter, Ended, read_answers};
pub use runner::{Options, Runner};
pub use summary::{Figure, Summary, default_metrics, samples, summarise};
