//! The few scalar functions that the standard library would give, each with one result on every machine.

#[cfg(arm_dsp)]
pub(crate) mod arm_exp;
#[cfg(arm_fpu)]
pub(crate) mod arm_fpu;

use crate::f16;

/// `a * b + c` rounded once.
///
/// Rust offers it only with `std`; AArch64 has the instruction always, elsewhere `libm` computes it.
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(target_arch = "aarch64")]
    {
        use core::arch::aarch64::{vdup_n_f32, vfma_f32, vget_lane_f32};
        // SAFETY: every AArch64 target of this crate has Advanced SIMD.
        unsafe { vget_lane_f32::<0>(vfma_f32(vdup_n_f32(c), vdup_n_f32(a), vdup_n_f32(b))) }
    }
    #[cfg(arm_fpu)]
    {
        arm_fpu::fma(a, b, c)
    }
    #[cfg(all(not(target_arch = "aarch64"), any(feature = "std", test)))]
    {
        a.mul_add(b, c)
    }
    #[cfg(not(any(target_arch = "aarch64", arm_fpu, feature = "std", test)))]
    {
        soft_fma(a, b, c)
    }
}

/// Without an FPU: never inlined, for it is long and used in many places.
#[cfg(not(any(target_arch = "aarch64", arm_fpu, feature = "std", test)))]
#[inline(never)]
fn soft_fma(a: f32, b: f32, c: f32) -> f32 {
    libm::fmaf(a, b, c)
}

/// An f16 as f32, exactly.
#[inline(always)]
pub(crate) fn widen(x: f16) -> f32 {
    #[cfg(arm_fpu)]
    {
        arm_fpu::widen(x)
    }
    #[cfg(not(arm_fpu))]
    {
        x.to_f32()
    }
}

/// An f32 as f16, rounded to nearest even.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> f16 {
    #[cfg(arm_fpu)]
    {
        arm_fpu::narrow(x)
    }
    #[cfg(not(arm_fpu))]
    {
        f16::from_f32(x)
    }
}

/// Square root, correctly rounded.
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    #[cfg(arm_fpu)]
    {
        arm_fpu::sqrt(x)
    }
    #[cfg(not(arm_fpu))]
    {
        libm::sqrtf(x)
    }
}

/// Adding and subtracting this rounds |x| < 2²² to the nearest integer, ties to even, and leaves that
/// integer in the low bits of the sum.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `e^x` to about one unit in the last place, the same bits on every machine.
///
/// Range reduction `x = n ln 2 + r` with ln 2 in two parts (Cody and Waite, «Software Manual for the
/// Elementary Functions», 1980) and the degree-5 polynomial of Cephes `expf`. Plain multiplications and
/// additions, so that the compiler may use any vector width. Below -87.3 the result is 0, above 88.37 it
/// stays at its largest value.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = if x > EXP_HIGHEST { EXP_HIGHEST } else { x };
    let clamped = if clamped < EXP_LOWEST {
        EXP_LOWEST
    } else {
        clamped
    };
    let shifted = clamped * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2[0];
    let r = r - n * LN_2[1];
    let [first, rest @ ..] = EXP_POLYNOMIAL;
    let p = rest.into_iter().fold(first, |p, next| p * r + next);
    let p = p * (r * r) + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000));
    if x < EXP_LOWEST { 0.0 } else { p * power }
}

/// Replaces each number by `e^(x - from)` and adds those of lane `i` to `sums[i]`, in order.
#[inline(always)]
pub(crate) fn exp_sum_lanes(numbers: &mut [[f32; LANES]], from: f32, sums: &mut [f32; LANES]) {
    #[cfg(arm_dsp)]
    arm_exp::exp_sum(numbers, from, sums);
    #[cfg(not(arm_dsp))]
    for numbers in numbers {
        for (sum, x) in sums.iter_mut().zip(numbers) {
            *x = exp(*x - from);
            *sum += *x;
        }
    }
}

/// [`exp`] where it is seldom called: each copy takes a hundred bytes of a microcontroller's flash, so there it is a function.
#[cfg_attr(target_arch = "arm", inline(never))]
#[cfg_attr(not(target_arch = "arm"), inline(always))]
pub(crate) fn seldom_exp(x: f32) -> f32 {
    exp(x)
}

/// Below this [`exp`] is 0.
pub(crate) const EXP_LOWEST: f32 = -87.336_54;
/// Above this [`exp`] stays as it is.
pub(crate) const EXP_HIGHEST: f32 = 88.376_26;
/// ln 2 in two parts. The first has nine bits, so its products with what [`exp`] takes off are exact.
pub(crate) const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The polynomial of [`exp`] from the highest power on, without the last two terms, `r + 1`.
pub(crate) const EXP_POLYNOMIAL: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    5e-1,
];

/// `tanh(x)` by [`exp`]: `1 - 2 / (e^{2x} + 1)`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (seldom_exp(2.0 * x) + 1.0)
}

/// The error function to 5e-7 absolute: Abramowitz and Stegun, formula 7.1.26.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (0.327_591_1 * a + 1.0);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let tail = p * t * seldom_exp(-a * a);
    let value = 1.0 - tail;
    if x < 0.0 { -value } else { value }
}

/// Number of running sums in a reduction. The same everywhere, so that the sum has one order.
pub(crate) const LANES: usize = 16;

/// Adds the sixteen running sums as a balanced tree.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    // Written out: `array::from_fn` may become a call, without the caller's vector instructions.
    let l = lanes;
    let four = [
        (l[0] + l[8]) + (l[4] + l[12]),
        (l[1] + l[9]) + (l[5] + l[13]),
        (l[2] + l[10]) + (l[6] + l[14]),
        (l[3] + l[11]) + (l[7] + l[15]),
    ];
    (four[0] + four[2]) + (four[1] + four[3])
}

/// The larger of two; `b` where `a` is a NaN.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The largest of sixteen numbers.
#[inline(always)]
pub(crate) fn largest_lane(lanes: [f32; LANES]) -> f32 {
    let l = lanes;
    let four = [
        larger(larger(l[0], l[8]), larger(l[4], l[12])),
        larger(larger(l[1], l[9]), larger(l[5], l[13])),
        larger(larger(l[2], l[10]), larger(l[6], l[14])),
        larger(larger(l[3], l[11]), larger(l[7], l[15])),
    ];
    larger(larger(four[0], four[2]), larger(four[1], four[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 2.5e-7, "exp({x})");
        }
        assert_eq!(
            (exp(0.0), exp(f32::NEG_INFINITY), exp(-1e4)),
            (1.0, 0.0, 0.0)
        );
        assert!(exp(f32::NAN).is_nan() && exp(f32::INFINITY) > 1e38);
    }

    #[test]
    fn erf_and_tanh_are_close() {
        for i in -6000..6000 {
            let x = i as f32 * 1e-3;
            assert!(
                (f64::from(erf(x)) - libm::erf(f64::from(x))).abs() < 5e-7,
                "erf({x})"
            );
            assert!(
                (f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 3e-7,
                "tanh({x})"
            );
        }
    }

    #[test]
    fn fma_rounds_once() {
        let a = 1.0 + f32::EPSILON;
        assert_eq!(
            fma(a, a, -(1.0 + 2.0 * f32::EPSILON)),
            f32::EPSILON * f32::EPSILON
        );
    }
}
