//! Ring buffers in RAM that the debug probe reads and writes: SEGGER's Real-Time Transfer. probe-rs knows the channel of logs by its
//! name.

use super::Input;
use crate::single::Single;
use cortex_m::peripheral::DCB;
use rtt_target::{ChannelMode, DownChannel, UpChannel, rtt_init};

struct Channels {
    logs: UpChannel,
    answers: UpChannel,
    prompts: DownChannel,
}

static CHANNELS: Single<Option<Channels>> = Single::new(None);

pub(super) fn begin() {
    let channels = rtt_init! {
        up: {
            0: { size: 1024, mode: ChannelMode::NoBlockTrim, name: "defmt" }
            1: { size: 512, mode: ChannelMode::NoBlockTrim, name: "answers" }
        }
        down: {
            0: { size: 256, name: "prompts" }
        }
    };
    CHANNELS.with(|all| {
        *all = Some(Channels {
            logs: channels.up.0,
            answers: channels.up.1,
            prompts: channels.down.0,
        });
    });
}

/// Whether a debugger holds the core: without one a breakpoint is a fault, and nobody empties the buffers.
pub(crate) fn debugger_attached() -> bool {
    DCB::is_debugger_attached()
}

/// Sends all, waiting for room while somebody makes room.
fn send(channel: &mut UpChannel, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent = channel.write(bytes);
        bytes = bytes.get(sent..).unwrap_or_default();
        if !debugger_attached() {
            return;
        }
    }
}

pub(super) fn write_text(bytes: &[u8]) {
    CHANNELS.with(|all| all.as_mut().map(|all| send(&mut all.answers, bytes)));
}

pub(super) fn write_log(bytes: &[u8]) {
    CHANNELS.with(|all| all.as_mut().map(|all| send(&mut all.logs, bytes)));
}

pub(super) fn read(wait: bool) -> Input {
    loop {
        let mut byte = [0];
        let count = CHANNELS.with(|all| all.as_mut().map_or(0, |all| all.prompts.read(&mut byte)));
        match (count, byte) {
            (Some(1..), [byte]) => return Input::Byte(byte),
            _ if !wait => return Input::Nothing,
            _ => {}
        }
    }
}
