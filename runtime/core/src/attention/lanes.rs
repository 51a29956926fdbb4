//! Sixteen values at a time: loading f32 and f16, and fused multiply-add.

use crate::math::LANES;
use crate::{Error, Isa, Operand, f16};

/// A way to load sixteen cached values.
pub(super) trait Load {
    /// What the cache holds.
    type Item: Copy + Default;

    /// Widens sixteen values.
    fn load(items: &[Self::Item; LANES]) -> [f32; LANES];
}

/// At most sixteen values, the rest zeros.
#[inline(always)]
pub(super) fn padded<T: Copy + Default>(items: &[T]) -> [T; LANES] {
    let mut padded = [T::default(); LANES];
    padded.iter_mut().zip(items).for_each(|(p, &x)| *p = x);
    padded
}

/// f32 as it is.
pub(super) struct F32;

impl Load for F32 {
    type Item = f32;

    #[inline(always)]
    fn load(items: &[f32; LANES]) -> [f32; LANES] {
        *items
    }
}

/// f16, widened in the portable way.
pub(super) struct F16;

impl Load for F16 {
    type Item = f16;

    #[inline(always)]
    fn load(items: &[f16; LANES]) -> [f32; LANES] {
        #[cfg(arm_fpu)]
        {
            crate::math::arm_fpu::widen_lanes(items)
        }
        #[cfg(not(arm_fpu))]
        {
            items.map(f16::to_f32)
        }
    }
}

/// f16 with the F16C instructions: only inside functions that enable them.
#[cfg(target_arch = "x86_64")]
pub(super) struct F16c;

#[cfg(target_arch = "x86_64")]
impl Load for F16c {
    type Item = f16;

    #[inline(always)]
    fn load(items: &[f16; LANES]) -> [f32; LANES] {
        use core::arch::x86_64::{__m256, _mm_loadu_si128, _mm256_cvtph_ps};
        // SAFETY: two times eight values of sixteen are read, and [__m256; 2] is sixteen f32. This type is
        // used by the copies of `online` for AVX2 and AVX-512 only, whose callers hold the proof that the CPU has F16C.
        unsafe {
            let low = _mm256_cvtph_ps(_mm_loadu_si128(items.as_ptr().cast()));
            let high = _mm256_cvtph_ps(_mm_loadu_si128(items.as_ptr().add(8).cast()));
            core::mem::transmute::<[__m256; 2], [f32; LANES]>([low, high])
        }
    }
}

/// `acc = a * b + acc` in every lane, each rounded once.
#[inline(always)]
pub(super) fn fma_lanes(acc: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    #[cfg(arm_fpu)]
    crate::math::arm_fpu::fma_lanes(acc, a, b);
    #[cfg(not(arm_fpu))]
    for ((acc, &a), &b) in acc.iter_mut().zip(a).zip(b) {
        *acc = crate::math::fma(a, b, *acc);
    }
}

/// Rounds f32 values to f16, to nearest even: what goes into an f16 cache.
///
/// # Errors
/// [`Error::Length`] when the lengths differ.
pub fn narrow_to_f16(isa: Isa, x: &[f32], out: &mut [f16]) -> Result<(), Error> {
    if x.len() != out.len() {
        return Err(Error::Length(Operand::Output));
    }
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::SCALAR {
        // SAFETY: every other instruction set of x86-64 that an `Isa` can prove includes F16C.
        unsafe { narrow_f16c(x, out) };
        return Ok(());
    }
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::SCALAR {
        narrow_neon(x, out);
        return Ok(());
    }
    let _ = isa;
    out.iter_mut()
        .zip(x)
        .for_each(|(o, &x)| *o = crate::math::narrow(x));
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c,avx")]
fn narrow_f16c(x: &[f32], out: &mut [f16]) {
    use core::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps,
    };
    let (chunks, rest) = x.as_chunks::<8>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<8>();
    for (x, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: both arrays hold eight values.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(x.as_ptr()));
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    out_rest
        .iter_mut()
        .zip(rest)
        .for_each(|(o, &x)| *o = f16::from_f32(x));
}

#[cfg(target_arch = "aarch64")]
fn narrow_neon(x: &[f32], out: &mut [f16]) {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<LANES>();
    for (x, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: both arrays hold sixteen values; the instructions are in every AArch64 target of this crate.
        unsafe {
            core::arch::asm!(
                "ld1 {{v0.4s-v3.4s}}, [{x}]",
                "fcvtn v4.4h, v0.4s",
                "fcvtn2 v4.8h, v1.4s",
                "fcvtn v5.4h, v2.4s",
                "fcvtn2 v5.8h, v3.4s",
                "st1 {{v4.8h, v5.8h}}, [{out}]",
                x = in(reg) x.as_ptr(),
                out = in(reg) out.as_mut_ptr(),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
                options(nostack, preserves_flags),
            );
        }
    }
    out_rest
        .iter_mut()
        .zip(rest)
        .for_each(|(o, &x)| *o = f16::from_f32(x));
}
