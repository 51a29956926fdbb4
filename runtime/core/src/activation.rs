//! Activation functions, element by element.

#[cfg(arm_dsp)]
mod arm_dsp;
#[cfg(target_arch = "aarch64")]
mod neon;

use crate::math::{self, erf, exp, seldom_exp};
use crate::pieces::pieces;
use crate::vector::for_each_isa;
use crate::{Error, Isa, MatrixMut, Operand};

/// `out = gate / (1 + e^-gate) * up`: the gated unit of the Llama family. `gate` and `up` are `[rows, columns]`, dense.
///
/// N. Shazeer, «GLU Variants Improve Transformer», 2020, arXiv 2002.05202.
///
/// # Errors
/// [`Error::Length`] when the three lengths differ.
pub fn silu_mul(isa: Isa, gate: &[f32], up: &[f32], mut out: MatrixMut<'_>) -> Result<(), Error> {
    if gate.len() != up.len() {
        return Err(Error::Length(Operand::Input));
    }
    if out.rows().checked_mul(out.columns()) != Some(gate.len()) {
        return Err(Error::Length(Operand::Output));
    }
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::SCALAR {
        // SAFETY: every AArch64 instruction set but the scalar one has Advanced SIMD.
        unsafe { neon::silu_mul(gate, up, &mut out) };
        return Ok(());
    }
    #[cfg(arm_dsp)]
    if isa != Isa::SCALAR || !crate::Feature::Scalar.is_built() {
        arm_dsp::silu_mul(gate, up, &mut out);
        return Ok(());
    }
    silu_mul_loop(isa, gate, up, &mut out);
    Ok(())
}

/// In place `x / (1 + e^-x)`.
pub fn silu(isa: Isa, x: &mut [f32]) {
    silu_loop(isa, x);
}

/// In place `tanh(x)`.
pub fn tanh(isa: Isa, x: &mut [f32]) {
    tanh_loop(isa, x);
}

/// In place `x * (1 + erf(x / √2)) / 2`, to about 1e-6.
///
/// D. Hendrycks and K. Gimpel, «Gaussian Error Linear Units», 2016, arXiv 1606.08415.
pub fn gelu_erf(isa: Isa, x: &mut [f32]) {
    gelu_erf_loop(isa, x);
}

/// In place `x * (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`: the approximation GPT-2 was trained with.
pub fn gelu_tanh(isa: Isa, x: &mut [f32]) {
    gelu_tanh_loop(isa, x);
}

for_each_isa! {
    fn silu_mul_loop(gate: &[f32], up: &[f32], out: &mut MatrixMut<'_>) {
        each_row(gate, up, out, |gate, up, out| gated(gate, up, out, exp));
    }
}

/// [`silu_mul`] of some values of one row, by a copy of [`exp`].
#[inline(always)]
fn gated(gate: &[f32], up: &[f32], out: &mut [f32], exp: impl Fn(f32) -> f32) {
    for ((y, &g), &u) in out.iter_mut().zip(gate).zip(up) {
        *y = g / (1.0 + exp(-g)) * u;
    }
}

/// Calls `work` with each row of `gate`, `up` and `out`.
#[inline(always)]
fn each_row(
    gate: &[f32],
    up: &[f32],
    out: &mut MatrixMut<'_>,
    work: impl Fn(&[f32], &[f32], &mut [f32]),
) {
    let columns = out.columns();
    let rows = pieces(gate, columns).zip(pieces(up, columns));
    for (row, (gate, up)) in rows.enumerate() {
        if let Some(out) = out.row_mut(row) {
            work(gate, up, out);
        }
    }
}

for_each_isa! {
    fn silu_loop(x: &mut [f32]) {
        for x in x {
            *x /= 1.0 + seldom_exp(-*x);
        }
    }
}

for_each_isa! {
    fn tanh_loop(x: &mut [f32]) {
        for x in x {
            *x = math::tanh(*x);
        }
    }
}

for_each_isa! {
    fn gelu_erf_loop(x: &mut [f32]) {
        for x in x {
            *x = 0.5 * *x * (1.0 + erf(*x * core::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

for_each_isa! {
    fn gelu_tanh_loop(x: &mut [f32]) {
        for x in x {
            *x = 0.5 * *x * (1.0 + math::tanh(0.797_884_6 * (*x + 0.044_715 * (*x * *x * *x))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn matches_the_formulas_and_every_isa_agrees() {
        let x: Vec<f32> = (-500..500).map(|i| i as f32 * 0.02).collect();
        let up: Vec<f32> = x.iter().rev().map(|v| v * 0.5 + 1.0).collect();
        let run = |isa| {
            let mut gated = std::vec![0.0; x.len()];
            let rows = MatrixMut::new(&mut gated, 10, x.len() / 10).unwrap();
            silu_mul(isa, &x, &up, rows).unwrap();
            let (mut silu_x, mut by_erf, mut by_tanh) = (x.clone(), x.clone(), x.clone());
            silu(isa, &mut silu_x);
            gelu_erf(isa, &mut by_erf);
            gelu_tanh(isa, &mut by_tanh);
            (gated, silu_x, by_erf, by_tanh)
        };
        let scalar = run(Isa::SCALAR);
        for (i, &v) in x.iter().enumerate() {
            let v = f64::from(v);
            let silu_want = v / (1.0 + (-v).exp());
            let erf_want = 0.5 * v * (1.0 + libm::erf(v / 2f64.sqrt()));
            let tanh_want = 0.5
                * v
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh());
            assert!((f64::from(scalar.0[i]) - silu_want * f64::from(up[i])).abs() < 2e-5);
            assert!((f64::from(scalar.1[i]) - silu_want).abs() < 2e-6);
            assert!((f64::from(scalar.2[i]) - erf_want).abs() < 2e-6);
            assert!((f64::from(scalar.3[i]) - tanh_want).abs() < 2e-6);
        }
        for isa in Isa::available() {
            assert!(run(isa) == scalar, "{}", isa.name());
        }
    }

    #[test]
    fn gates_of_all_magnitudes_agree() {
        let gate: Vec<f32> = (0..=u32::MAX)
            .step_by(9973)
            .map(f32::from_bits)
            .chain([87.336_54, 87.336_55, 88.376_26, 88.376_27, 0.0].map(|x| -x))
            .collect();
        let up: Vec<f32> = (0..gate.len()).map(|i| (i % 7) as f32 - 3.5).collect();
        let run = |isa| {
            let mut out = std::vec![0.0; gate.len()];
            let rows = MatrixMut::new(&mut out, 1, gate.len()).unwrap();
            silu_mul(isa, &gate, &up, rows).unwrap();
            // Which NaN it is, the machines may choose.
            out.into_iter()
                .map(|y| if y.is_nan() { 1 } else { y.to_bits() })
                .collect::<Vec<u32>>()
        };
        let scalar = run(Isa::SCALAR);
        for isa in Isa::available() {
            assert!(run(isa) == scalar, "{}", isa.name());
        }
    }
}
