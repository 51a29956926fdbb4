//! Ring buffers in RAM that the debug probe reads and writes: SEGGER's Real-Time Transfer. probe-rs knows the channel of logs by its
//! name.

use super::Input;
use crate::single::Single;
use core::mem::MaybeUninit;
use core::ptr::addr_of_mut;
use cortex_m::peripheral::DCB;
use rtt_target::rtt::{RttChannel, RttHeader};
use rtt_target::{ChannelMode, DownChannel, UpChannel};

/// What the probe looks for in RAM. The crate's macro makes the same, but asserts that it is called once, and an assertion is a way to
/// a panic.
#[repr(C)]
struct ControlBlock {
    header: RttHeader,
    up: [RttChannel; 2],
    down: [RttChannel; 1],
}

#[unsafe(export_name = "_SEGGER_RTT")]
static mut CONTROL_BLOCK: MaybeUninit<ControlBlock> = MaybeUninit::uninit();
static mut LOGS: [u8; 1024] = [0; 1024];
static mut ANSWERS: [u8; 512] = [0; 512];
static mut PROMPTS: [u8; 256] = [0; 256];

struct Channels {
    logs: UpChannel,
    answers: UpChannel,
    prompts: DownChannel,
}

static CHANNELS: Single<Option<Channels>> = Single::new(None);

pub(super) fn begin() {
    CHANNELS.with(|all| {
        if all.is_none() {
            *all = Some(make());
        }
    });
}

/// Called once.
fn make() -> Channels {
    // SAFETY: nobody else names the statics, and this is called once. Zeros are a control block; names end with a zero, and
    // pointers are good for ever. The header comes last, so that no probe finds half of a block.
    unsafe {
        let block = addr_of_mut!(CONTROL_BLOCK).cast::<ControlBlock>();
        block.write_bytes(0, 1);
        let ControlBlock { header, up, down } = &mut *block;
        let [logs, answers] = up;
        let [prompts] = down;
        let trim = || ChannelMode::NoBlockTrim;
        logs.init(c"defmt".as_ptr().cast(), trim(), addr_of_mut!(LOGS));
        answers.init(c"answers".as_ptr().cast(), trim(), addr_of_mut!(ANSWERS));
        let name = c"prompts".as_ptr().cast();
        prompts.init(name, ChannelMode::NoBlockSkip, addr_of_mut!(PROMPTS));
        header.init(2, 1);
        Channels {
            logs: UpChannel::new(logs),
            answers: UpChannel::new(answers),
            prompts: DownChannel::new(prompts),
        }
    }
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
