//! x86-64 with AMX: sixteen tokens by sixteen rows by 64 columns in one instruction. Stable Rust has no intrinsics for it,
//! so the few instructions are written out.
//!
//! The tile registers are state that Linux hands out on request; where it doesn't, the AVX-512 kernel is used. A few
//! tokens are left to that one too.

use super::{Dots, Implementation, Panel, avx512};
use core::arch::asm;
#[cfg(target_os = "linux")]
use core::sync::atomic::{AtomicU8, Ordering};

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-avx512-amx",
    dots,
    begin,
    end,
};

/// Tokens below which a tile would be mostly empty.
const WORTH_A_TILE: usize = 5;

/// What `ldtilecfg` reads: palette 1, all eight tiles 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Whether the CPU has AMX for bytes and the system lets this process use it. Asked once.
#[cfg(target_os = "linux")]
pub(super) fn available() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let found = cpu_has_it() && system_grants_it();
            KNOWN.store(1 + u8::from(found), Ordering::Relaxed);
            found
        }
        known => known == 2,
    }
}

/// No other system is known to hand the tiles out in this way.
#[cfg(not(target_os = "linux"))]
pub(super) fn available() -> bool {
    false
}

#[cfg(target_os = "linux")]
fn cpu_has_it() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    let highest = __cpuid(0).eax;
    highest >= 7 && __cpuid_count(7, 0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`: Documentation/arch/x86/xstate.rst of Linux.
#[cfg(target_os = "linux")]
fn system_grants_it() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call that changes nothing but this process's permission; it overwrites rax, rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result, in("rdi") REQUEST, in("rsi") TILE_DATA,
            lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    result == 0
}

/// # Safety
/// The CPU and the system must have AMX.
unsafe fn begin() {
    // SAFETY: the configuration is a valid one, read whole.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack)) }
}

/// # Safety
/// As [`begin`].
unsafe fn end() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nomem, nostack)) }
}

/// # Safety
/// See [`super::DotsFn`]; `begin` must have been called on this thread.
unsafe fn dots(call: &Dots, panel: &mut Panel) {
    // SAFETY: the caller's promise. Tiles of sixteen rows are read: so many tokens can be, and 64 columns of a tile of
    // weights are sixteen rows of 64 bytes. What is stored are sixteen rows of a panel, 128 bytes apart.
    unsafe {
        if call.tokens < WORTH_A_TILE {
            return avx512::dots(call, panel);
        }
        let second = call.weights.add((call.tiles - 1) * call.tile_bytes);
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm2, [{a} + {stride}]",
            "tileloadd tmm3, [{w} + {line}]",
            "tileloadd tmm4, [{v} + {line}]",
            "tdpbusd tmm0, tmm2, tmm3",
            "tdpbusd tmm1, tmm2, tmm4",
            "add {a}, 64",
            "add {w}, 1024",
            "add {v}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {line2}], tmm0",
            "tilestored [{to} + {line2} + 64], tmm1",
            a = inout(reg) call.activations => _,
            w = inout(reg) call.weights => _,
            v = inout(reg) second => _,
            steps = inout(reg) call.columns / 64 => _,
            stride = in(reg) call.stride,
            line = in(reg) 64usize,
            line2 = in(reg) 128usize,
            to = in(reg) panel.as_mut_ptr(),
            options(nostack)
        );
    }
}
