//! defmt's frames onto the board's transport.

use crate::single::Single;
use crate::transport;

#[defmt::global_logger]
struct Logger;

static ENCODER: Single<defmt::Encoder> = Single::new(defmt::Encoder::new());

fn encode(step: impl FnOnce(&mut defmt::Encoder)) {
    // Nobody else encodes: a fault in the middle of a frame is the only way in, and then this frame goes on where the other stopped.
    ENCODER.with(step);
}

// SAFETY: one core without interrupts: calls don't overlap.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        transport::begin_log();
        encode(|encoder| encoder.start_frame(transport::write_log));
    }

    unsafe fn flush() {}

    unsafe fn release() {
        encode(|encoder| encoder.end_frame(transport::write_log));
    }

    unsafe fn write(bytes: &[u8]) {
        encode(|encoder| encoder.write(bytes, transport::write_log));
    }
}
