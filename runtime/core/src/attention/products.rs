//! The multiplications of [`super::tiled`]: numbers in memory times vectors of lanes, a few sums side by side.

use super::lanes::fma_lanes;
use crate::math::LANES;
use crate::vector::unrolled;

/// A vector of lanes, one for each token.
pub(super) type Lanes = [f32; LANES];

/// How an instruction set multiplies.
pub(super) trait Products {
    /// `sum = fma(lanes[depth], numbers[depth * depth_step + i * step], sum)` over the depth in order, for `COUNT` sums of
    /// `VECTORS` vectors; `lanes` is `[depth, VECTORS]`. At most 8 sums of 2 vectors.
    ///
    /// # Safety
    /// The numbers must be readable, and the CPU have the instruction set.
    unsafe fn products<const COUNT: usize, const VECTORS: usize>(
        numbers: *const f32,
        step: usize,
        depth_step: usize,
        lanes: &[Lanes],
    ) -> [[Lanes; VECTORS]; COUNT];
}

/// Plain Rust, and what the compiler makes of it.
pub(super) struct Plain;

impl Products for Plain {
    #[inline(always)]
    unsafe fn products<const COUNT: usize, const VECTORS: usize>(
        numbers: *const f32,
        step: usize,
        depth_step: usize,
        lanes: &[Lanes],
    ) -> [[Lanes; VECTORS]; COUNT] {
        let mut sums = [[[0f32; LANES]; VECTORS]; COUNT];
        for (depth, lanes) in lanes.as_chunks::<VECTORS>().0.iter().enumerate() {
            unrolled!(i < COUNT, {
                // SAFETY: the caller's promise.
                let number = unsafe { *numbers.add(depth * depth_step + i * step) };
                unrolled!(vector < VECTORS, at most 2, {
                    fma_lanes(&mut sums[i][vector], &lanes[vector], &[number; LANES]);
                });
            });
        }
        sums
    }
}

/// AVX-512 in its own words: the compiler takes vectors of neighbouring numbers apart where one broadcast does.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Products for Avx512 {
    #[inline(always)]
    unsafe fn products<const COUNT: usize, const VECTORS: usize>(
        numbers: *const f32,
        step: usize,
        depth_step: usize,
        lanes: &[Lanes],
    ) -> [[Lanes; VECTORS]; COUNT] {
        use core::arch::x86_64::{
            _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
        };
        let mut found = [[[0f32; LANES]; VECTORS]; COUNT];
        // SAFETY: the caller's promise; vectors are read from and written to whole arrays of sixteen.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; COUNT];
            let mut numbers = numbers;
            for lanes in lanes.as_chunks::<VECTORS>().0 {
                let mut vectors = [_mm512_setzero_ps(); VECTORS];
                unrolled!(vector < VECTORS, at most 2, {
                    vectors[vector] = _mm512_loadu_ps(lanes[vector].as_ptr());
                });
                unrolled!(i < COUNT, {
                    let number = _mm512_set1_ps(*numbers.add(i * step));
                    unrolled!(vector < VECTORS, at most 2, {
                        sums[i][vector] =
                            _mm512_fmadd_ps(vectors[vector], number, sums[i][vector]);
                    });
                });
                numbers = numbers.wrapping_add(depth_step);
            }
            unrolled!(i < COUNT, {
                unrolled!(vector < VECTORS, at most 2, {
                    _mm512_storeu_ps(found[i][vector].as_mut_ptr(), sums[i][vector]);
                });
            });
        }
        found
    }
}
