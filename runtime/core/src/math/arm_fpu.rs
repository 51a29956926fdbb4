//! What the FPU of a Cortex-M computes and stable Rust has no function for.
//!
//! The register class of the FPU is closed to inline assembler here (rustc 1.95 wants the feature `vfp2`, which an FPU of single
//! precision does not count as), so numbers go in and out by other registers or memory, and the FPU's are named as overwritten.

use super::LANES;
use crate::f16;
use core::arch::asm;

/// `a * b + c` rounded once.
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    let mut bits = c.to_bits();
    // SAFETY: touches registers only.
    unsafe {
        asm!(
            "vmov s0, {a}",
            "vmov s1, {b}",
            "vmov s2, {c}",
            "vfma.f32 s2, s0, s1",
            "vmov {c}, s2",
            a = in(reg) a.to_bits(),
            b = in(reg) b.to_bits(),
            c = inout(reg) bits,
            out("s0") _, out("s1") _, out("s2") _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    f32::from_bits(bits)
}

/// Square root, correctly rounded.
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    let mut bits = x.to_bits();
    // SAFETY: touches registers only.
    unsafe {
        asm!(
            "vmov s0, {x}",
            "vsqrt.f32 s0, s0",
            "vmov {x}, s0",
            x = inout(reg) bits,
            out("s0") _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    f32::from_bits(bits)
}

/// An f16 as f32, exactly.
#[inline(always)]
pub(crate) fn widen(x: f16) -> f32 {
    let mut bits = u32::from(x.to_bits());
    // SAFETY: touches registers only.
    unsafe {
        asm!(
            "vmov s0, {x}",
            "vcvtb.f32.f16 s0, s0",
            "vmov {x}, s0",
            x = inout(reg) bits,
            out("s0") _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    f32::from_bits(bits)
}

/// An f32 as f16, rounded to nearest even.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> f16 {
    let mut bits = x.to_bits();
    // SAFETY: touches registers only.
    unsafe {
        asm!(
            "vmov s0, {x}",
            "vcvtb.f16.f32 s0, s0",
            "vmov {x}, s0",
            x = inout(reg) bits,
            out("s0") _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    f16::from_bits(bits as u16)
}

/// The same lines four times. Not `.rept`: the compiler counts lines to know how far its jumps and constants reach.
macro_rules! four_times {
    ($($line:literal),+ $(,)?) => {
        concat!(
            $($line, "\n",)+
            $($line, "\n",)+
            $($line, "\n",)+
            $($line, "\n",)+
        )
    };
}

/// `acc = a * b + acc` in every lane, each rounded once.
#[inline(always)]
pub(crate) fn fma_lanes(acc: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    // SAFETY: sixteen numbers are read from and written to each array.
    unsafe {
        asm!(
            four_times!(
            "vldmia {a}!, {{s0-s3}}",
            "vldmia {b}!, {{s4-s7}}",
            "vldmia {acc}, {{s8-s11}}",
            "vfma.f32 s8, s0, s4",
            "vfma.f32 s9, s1, s5",
            "vfma.f32 s10, s2, s6",
            "vfma.f32 s11, s3, s7",
            "vstmia {acc}!, {{s8-s11}}",
            ),
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            acc = inout(reg) acc.as_mut_ptr() => _,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _,
            out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _,
            options(nostack, preserves_flags),
        );
    }
}

/// Sixteen halves as floats, exactly.
#[inline(always)]
pub(crate) fn widen_lanes(halves: &[f16; LANES]) -> [f32; LANES] {
    let mut wide = [0f32; LANES];
    // SAFETY: sixteen halves are read, which may lie at any address of a multiple of two, and sixteen floats written.
    unsafe {
        asm!(
            four_times!(
            "ldr {first}, [{halves}], #4",
            "ldr {second}, [{halves}], #4",
            "vmov s4, s5, {first}, {second}",
            "vcvtb.f32.f16 s0, s4",
            "vcvtt.f32.f16 s1, s4",
            "vcvtb.f32.f16 s2, s5",
            "vcvtt.f32.f16 s3, s5",
            "vstmia {wide}!, {{s0-s3}}",
            ),
            halves = inout(reg) halves.as_ptr() => _,
            wide = inout(reg) wide.as_mut_ptr() => _,
            first = out(reg) _,
            second = out(reg) _,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _,
            options(nostack, preserves_flags),
        );
    }
    wide
}
