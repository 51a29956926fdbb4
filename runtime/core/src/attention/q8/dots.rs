//! Dot products of some fours of 8-bit codes with as many fours of each of many columns (or positions): what both products of
//! attention over an 8-bit cache are, as its rows interleave.

#[cfg(arm_dsp)]
use core::arch::naked_asm;

/// The most fours.
pub(super) const FOURS: usize = 8;

/// For each `i` the sum over `f` of the dot product of `codes[f]` with the four codes at `words + f · stride + 4 · i`. Of `codes` only
/// [`FOURS`] count.
///
/// # Safety
/// All these words must be readable.
#[inline(always)]
pub(super) unsafe fn dots<const COUNT: usize>(
    codes: &[[i8; 4]],
    words: *const i8,
    stride: usize,
) -> [i32; COUNT] {
    const { assert!(COUNT.is_multiple_of(4)) };
    let codes = codes.get(..FOURS).unwrap_or(codes);
    let mut sums = [0i32; COUNT];
    #[cfg(arm_dsp)]
    if !codes.is_empty() {
        let (fours, quads) = (codes.len(), COUNT / 4);
        // SAFETY: the caller's promise; there are at least one and at most as many fours as fit, and the sums are there.
        unsafe {
            dots_of_four(
                codes.as_ptr().cast(),
                words,
                stride,
                fours,
                sums.as_mut_ptr(),
                quads,
            );
        };
    }
    #[cfg(not(arm_dsp))]
    for (index, four) in codes.iter().enumerate() {
        // SAFETY: the caller's promise.
        let words = unsafe { &*words.add(index * stride).cast::<[[i8; 4]; COUNT]>() };
        for (sum, word) in sums.iter_mut().zip(words) {
            let products = four.iter().zip(word);
            let products = products.map(|(&a, &b)| i32::from(a) * i32::from(b));
            *sum += products.sum::<i32>();
        }
    }
    sums
}

/// One of four sums and its word.
#[cfg(arm_dsp)]
macro_rules! four_products {
    ($word:literal, $sum:literal) => {
        concat!(
            "sxtb16 r3, ",
            $word,
            "\n",
            "smlad ",
            $sum,
            ", r3, r4, ",
            $sum,
            "\n",
            "sxtb16 r3, ",
            $word,
            ", ror #8\n",
            "smlad ",
            $sum,
            ", r3, r5, ",
            $sum,
            "\n",
        )
    };
}

/// `fours` codes, widened once to pairs of 16 bits on the stack; then four sums at a time, `quads` times.
///
/// # Safety
/// As [`dots`]; `fours` from 1 to [`FOURS`], `quads` not 0, `sums` four times as many.
#[cfg(arm_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn dots_of_four(
    codes: *const i8,
    words: *const i8,
    stride: usize,
    fours: usize,
    sums: *mut i32,
    quads: usize,
) {
    naked_asm!(
        concat!(".cpu ", env!("FURLONG_ARM_CORE")),
        // On the stack: the pairs, where they end, something to fill up, words; above what is saved, sums and quads.
        "push {{r1, r4-r11, lr}}",
        "sub sp, sp, #72",
        "mov r4, sp",
        "2:",
        "ldr r6, [r0], #4",
        "sxtb16 r7, r6",
        "sxtb16 r8, r6, ror #8",
        "strd r7, r8, [r4], #8",
        "subs r3, r3, #1",
        "bne.w 2b",
        "str r4, [sp, #64]",
        "3:",
        "ldr r0, [sp, #72]",
        "add r3, r0, #16",
        "str r3, [sp, #72]",
        "mov r1, sp",
        "mov r10, #0",
        "mov r11, #0",
        "mov r12, #0",
        "mov lr, #0",
        "4:",
        "ldrd r4, r5, [r1], #8",
        // Not `ldm`: codes may lie at any address.
        "ldr r6, [r0]",
        "ldr r7, [r0, #4]",
        "ldr r8, [r0, #8]",
        "ldr r9, [r0, #12]",
        "add r0, r0, r2",
        four_products!("r6", "r10"),
        four_products!("r7", "r11"),
        four_products!("r8", "r12"),
        four_products!("r9", "lr"),
        "ldr r3, [sp, #64]",
        "cmp r1, r3",
        "bne.w 4b",
        "ldrd r3, r4, [sp, #112]",
        "stm r3!, {{r10, r11, r12, lr}}",
        "subs r4, r4, #1",
        "strd r3, r4, [sp, #112]",
        "bne.w 3b",
        "add sp, sp, #76",
        "pop {{r4-r11, pc}}",
    )
}
