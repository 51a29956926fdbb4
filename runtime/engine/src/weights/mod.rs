//! Where weights live: outside tract, in a mapped file or packed for the kernels.

mod bytes;

pub use bytes::SharedBytes;
