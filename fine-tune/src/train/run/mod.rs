//! A training run, from its settings to the files it leaves.
//!
//! - [`Settings`] say everything about a run; each is a flag and a key of a settings file ([`settings_file`]).
//! - [`Run`] opens model and data, goes on where a run was broken off, and writes what was learnt.
//! - [`Replicas`] are the model on one device or on several, which share the batches of a step; on the processor, threads share the
//!   rows of a batch.
//! - The trainer takes the steps of a [`plan`](Plan), with evaluations and checkpoints in between.
//! - Checkpoints, `metrics.jsonl`, TensorBoard's events and a plot stand in the `training` folder beside the result.
//!
//! Whatever is drawn at random follows from the seed and the number of the step. A run that is killed and resumed gives the same
//! losses as one that isn't, to the bit, on the same devices with the same number of threads.

mod devices;
mod events;
mod layer_list;
mod memory;
mod metrics;
mod plan;
mod plot;
mod replicas;
mod run_files;
mod session;
mod settings;
pub mod settings_file;
mod source;
mod state;
mod store;
mod summary;
mod trainer;
mod workers;

pub use devices::devices;
pub use memory::resident_bytes;
pub use plan::Plan;
pub use replicas::{Job, Replicas};
pub use run_files::RunFiles;
pub use session::Run;
pub use settings::{DeviceKind, Method, Settings};
pub use summary::Summary;
pub use trainer::{Ended, Progress};
