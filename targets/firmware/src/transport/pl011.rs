//! A Raspberry Pi's full serial port (Arm DDI 0183, PrimeCell UART PL011), on pins 8 and 10.

use super::Input;
use crate::board::{GPIO_BASE, PL011_BASE, PL011_DIVIDER};

const DATA: usize = PL011_BASE;
const FLAGS: usize = PL011_BASE + 0x18;
const DIVIDER_WHOLE: usize = PL011_BASE + 0x24;
const DIVIDER_FRACTION: usize = PL011_BASE + 0x28;
const LINE_CONTROL: usize = PL011_BASE + 0x2c;
const CONTROL: usize = PL011_BASE + 0x30;
/// Function of the pins 10 to 19, three bits each.
const PIN_FUNCTION: usize = GPIO_BASE + 0x04;

/// `FLAGS`: nothing received.
const RECEIVE_EMPTY: u32 = 1 << 4;
/// `FLAGS`: no room to send.
const SEND_FULL: u32 = 1 << 5;

fn get(register: usize) -> u32 {
    // SAFETY: a register of the port or of the pins, which only this file uses.
    unsafe { (register as *const u32).read_volatile() }
}

fn set(register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { (register as *mut u32).write_volatile(value) }
}

pub(super) fn begin() {
    // Pins 14 and 15 of the chip take their alternate function 0 (BCM2835 ARM Peripherals, section 6.2): this port.
    let pins = get(PIN_FUNCTION) & !(0b111_111 << 12);
    set(PIN_FUNCTION, pins | 0b100_100 << 12);
    set(CONTROL, 0);
    set(DIVIDER_WHOLE, PL011_DIVIDER >> 6);
    set(DIVIDER_FRACTION, PL011_DIVIDER & 0x3f);
    // Eight bits, no parity, one stop bit, with queues.
    set(LINE_CONTROL, 0b11 << 5 | 1 << 4);
    // On, sending, receiving.
    set(CONTROL, 1 | 1 << 8 | 1 << 9);
}

pub(super) fn write_text(bytes: &[u8]) {
    for &byte in bytes {
        while get(FLAGS) & SEND_FULL != 0 {}
        set(DATA, u32::from(byte));
    }
}

pub(super) fn write_log(bytes: &[u8]) {
    write_text(bytes);
}

pub(super) fn read(wait: bool) -> Input {
    loop {
        if get(FLAGS) & RECEIVE_EMPTY == 0 {
            // The upper bits report noise on the line.
            return Input::Byte(get(DATA) as u8);
        }
        if !wait {
            return Input::Nothing;
        }
    }
}
