//! From examples to batches: what a model sees in training, in which order.
//!
//! 1. [`SampleWriter`] turns an example into a [`Sample`]: token ids, and which of them are to be learnt.
//! 2. [`Epoch`] says which samples stand in which row of which batch. It follows from the seed and the number of the epoch
//!    alone, so a [`Cursor`] of two numbers is all that a checkpoint must keep of the data.
//! 3. A [`Batch`](super::model::Batch) holds the rows as plain numbers.

mod batch;
mod epoch;
mod sample;
mod set;
#[cfg(test)]
mod tests;

pub use batch::filled;
pub use epoch::{Arrangement, Cursor, Epoch};
pub use sample::{Sample, SampleWriter, TooLong, WriterOptions};
pub use set::{Lesson, SampleSet};
