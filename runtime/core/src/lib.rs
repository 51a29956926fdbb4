//! Furlong core: what every device runs, from a server to a Cortex-M0.
#![no_std]
