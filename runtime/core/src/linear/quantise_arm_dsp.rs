//! Rounding activations to int8 on a Cortex-M with the DSP extension, straight into the records its kernels read.
//!
//! Blocks have 32, 64 or 128 columns. A block is read twice: for its largest magnitude, and for its codes. Adding `1.5·2²³`
//! leaves a code in the low half of a float's bits, sign included, so a pair of codes is one `pkhbt`.

use super::activations::{DSP_NUMBER_BYTES, Order, Place, scale_and_inverse};
use crate::math::ROUND;
use crate::pieces::pieces_mut;
use core::arch::naked_asm;

/// The largest block.
const MAX_BLOCK: usize = 128;

/// Writes one token's share of the records of its group, the last block padded with zeros. Nothing is written past the end of
/// `records`. Not inlined: what it needs would take registers where other kernels are called, too.
#[inline(never)]
pub(super) fn quantise(order: Order, block: usize, x: &[f32], place: Place, records: &mut [u8]) {
    // The sizes of groups this order comes in.
    if place.token >= place.size || place.size > 2 {
        return;
    }
    let step = order.record_bytes(block) * place.size;
    each_block(x, block, records, step, |x, record| {
        // SAFETY: there are `block` values, a multiple of 32, and a record of `size` tokens.
        unsafe { quantise_block(order, x, place, record.as_mut_ptr()) };
    });
}

/// Calls `work` with each block of numbers, the last one filled up with zeros, and with the `step` bytes where its records go; stops
/// where `records` ends.
fn each_block(
    x: &[f32],
    block: usize,
    records: &mut [u8],
    step: usize,
    mut work: impl FnMut(&[f32], &mut [u8]),
) {
    let block = block.clamp(1, MAX_BLOCK);
    let mut records = pieces_mut(records, step);
    let mut rest = x;
    while let Some((whole, after)) = rest.split_at_checked(block) {
        let Some(record) = records.next() else { return };
        work(whole, record);
        rest = after;
    }
    if let (false, Some(record)) = (rest.is_empty(), records.next()) {
        with_zeros(rest, block, |x| work(x, record));
    }
}

/// Calls `work` with `x`, fewer than `block` numbers, and zeros up to so many. A function of its own: clearing the memory would cost
/// every caller hundreds of instructions.
#[cold]
#[inline(never)]
pub(super) fn with_zeros(x: &[f32], block: usize, work: impl FnOnce(&[f32])) {
    let mut padded = [0f32; MAX_BLOCK];
    if let Some(padded) = padded.get_mut(..block) {
        padded.iter_mut().zip(x).for_each(|(p, &x)| *p = x);
        work(padded);
    }
}

/// # Safety
/// `x` must have a multiple of 32 values, `record` room for one of as many columns and `place.size` tokens, at most 2.
unsafe fn quantise_block(order: Order, x: &[f32], place: Place, record: *mut u8) {
    let Place { size, token } = place;
    // SAFETY: the caller's promise.
    unsafe {
        let codes = record.add(size * 4 + token * if order == Order::Halves { 4 } else { 8 });
        let numbers = record.add(size * 4 + size * x.len() * 2);
        let (scale, inverse) = scale_and_inverse(largest(x.as_ptr(), x.len()));
        let round = match (order, size) {
            (Order::Halves, 1) => halves::<1>,
            (Order::Halves, _) => halves::<2>,
            (_, 1) => split_pairs::<1>,
            (_, _) => split_pairs::<2>,
        };
        let sums = round(x.as_ptr(), x.len(), codes, inverse, ROUND);
        let (low, high) = (sums as i32, (sums >> 32) as i32);
        // `split_pairs` gives the sums of b, d and of 256 a - b, 256 c - d.
        let (start, sum) = if order == Order::Halves {
            (-8 * low, low)
        } else {
            let first = (low + high) / 256;
            (-(128 * 256) * first, low + first)
        };
        record.add(token * 4).cast::<i32>().write_unaligned(start);
        let numbers = numbers.add(token * 4).cast::<f32>();
        numbers.write_unaligned(scale);
        numbers.add(size).write_unaligned(scale * sum as f32);
    }
}

const _: () = assert!(DSP_NUMBER_BYTES == 3 * 4);

/// The bits of the largest magnitude of `count` numbers, a multiple of 8.
///
/// # Safety
/// They must be readable.
#[unsafe(naked)]
unsafe extern "C" fn largest(x: *const f32, count: usize) -> u32 {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r9, lr}}",
        "mov r12, #0",
        "2:",
        "ldm r0!, {{r2-r9}}",
        // Without the sign, twice the bits. A new largest is rare, so that is out of the way.
        ".irp n, 2, 3, 4, 5, 6, 7, 8, 9",
        "cmp r12, r\\n, lsl #1",
        "blo 3\\n\\()f",
        "4\\n\\():",
        ".endr",
        "subs r1, r1, #8",
        "bne 2b",
        "lsr r0, r12, #1",
        "pop {{r4-r9, pc}}",
        ".irp n, 2, 3, 4, 5, 6, 7, 8, 9",
        "3\\n\\():",
        "lsl r12, r\\n, #1",
        "b 4\\n\\()b",
        ".endr",
    )
}

/// The codes of eight columns: even ones in r2 to r5, odd ones in r6 to r9. Only their low halves count. The inverse is in s8,
/// [`ROUND`] in s9.
macro_rules! round_eight {
    () => {
        concat!(
            "vldmia r0!, {{s0-s7}}\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "vmul.f32 s\\n, s\\n, s8\n",
            "vadd.f32 s\\n, s\\n, s9\n",
            ".endr\n",
            "vmov r2, r6, s0, s1\n",
            "vmov r3, r7, s2, s3\n",
            "vmov r4, r8, s4, s5\n",
            "vmov r5, r9, s6, s7\n",
        )
    };
}

/// Writes `count` codes, a multiple of 32, of one token of a group of `TOKENS` as [`Order::SplitPairs`]. Returns the sum of what
/// the second words hold, `b` and `d`, and above it that of the first words, `256 a - b` and `256 c - d`.
///
/// # Safety
/// `x` must be readable, `to` have room for the codes.
#[unsafe(naked)]
unsafe extern "C" fn split_pairs<const TOKENS: usize>(
    x: *const f32,
    count: usize,
    to: *mut u8,
    inverse: f32,
    round: f32,
) -> u64 {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r11, lr}}",
        "vmov.f32 s8, s0",
        "vmov.f32 s9, s1",
        "mov r12, r2",
        // r10, r11: the sums; lr: a pair of ones.
        "mov r10, #0",
        "mov r11, #0",
        "mov lr, #0x00010001",
        "2:",
        round_eight!(),
        "rsb r2, r3, r2, lsl #8",
        "rsb r4, r5, r4, lsl #8",
        "pkhbt r2, r2, r4, lsl #16",
        "pkhbt r3, r3, r5, lsl #16",
        "rsb r6, r7, r6, lsl #8",
        "rsb r8, r9, r8, lsl #8",
        "pkhbt r6, r6, r8, lsl #16",
        "pkhbt r7, r7, r9, lsl #16",
        "smlad r10, r3, lr, r10",
        "smlad r11, r2, lr, r11",
        "smlad r10, r7, lr, r10",
        "smlad r11, r6, lr, r11",
        // Odd columns of a part lie behind the even ones.
        "strd r2, r3, [r12]",
        "strd r6, r7, [r12, #32 * {tokens}]",
        "add r12, r12, #8 * {tokens}",
        "sub r1, r1, #8",
        "tst r1, #31",
        "it eq",
        "addeq r12, r12, #32 * {tokens}",
        "cmp r1, #0",
        "bne.w 2b",
        "mov r0, r10",
        "mov r1, r11",
        "pop {{r4-r11, pc}}",
        tokens = const TOKENS,
    )
}

/// As [`split_pairs`], but [`Order::Halves`]. Returns the sum of the codes in the low half.
///
/// # Safety
/// As [`split_pairs`].
#[unsafe(naked)]
unsafe extern "C" fn halves<const TOKENS: usize>(
    x: *const f32,
    count: usize,
    to: *mut u8,
    inverse: f32,
    round: f32,
) -> u64 {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        "push {{r4-r10, lr}}",
        "vmov.f32 s8, s0",
        "vmov.f32 s9, s1",
        "mov r12, r2",
        "mov r10, #0",
        "mov lr, #0x00010001",
        "2:",
        round_eight!(),
        "pkhbt r2, r2, r4, lsl #16",
        "pkhbt r6, r6, r8, lsl #16",
        "pkhbt r3, r3, r5, lsl #16",
        "pkhbt r7, r7, r9, lsl #16",
        "smlad r10, r2, lr, r10",
        "smlad r10, r6, lr, r10",
        "smlad r10, r3, lr, r10",
        "smlad r10, r7, lr, r10",
        "str r2, [r12]",
        "str r6, [r12, #4 * {tokens}]",
        "str r3, [r12, #8 * {tokens}]",
        "str r7, [r12, #12 * {tokens}]",
        "add r12, r12, #16 * {tokens}",
        "subs r1, r1, #8",
        "bne.w 2b",
        "mov r0, r10",
        "pop {{r4-r10, pc}}",
        tokens = const TOKENS,
    )
}
