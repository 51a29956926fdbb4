//! SwiGLU on a Cortex-M with an FPU of single precision, in assembler around the exponential function of [`arm_exp`](crate::math): the
//! results of the portable code, to the bit.

#[cfg(not(arm_helium))]
mod fpu;
#[cfg(arm_helium)]
mod helium;

use super::{each_row, gated};
use crate::MatrixMut;
use crate::math::arm_exp::CONSTANTS;
use crate::math::seldom_exp;
#[cfg(not(arm_helium))]
use fpu::run;
#[cfg(arm_helium)]
use helium::run;

/// Numbers that the assembler takes at once.
const STEP: usize = 8;

/// `gate / (1 + e^-gate) * up`, row by row; lengths were checked by the caller.
pub(super) fn silu_mul(gate: &[f32], up: &[f32], out: &mut MatrixMut<'_>) {
    each_row(gate, up, out, |gate, up, out| {
        let (gates, gates_left) = gate.as_chunks::<STEP>();
        let (ups, ups_left) = up.as_chunks::<STEP>();
        let (outs, outs_left) = out.as_chunks_mut::<STEP>();
        let count = gates.len().min(ups.len()).min(outs.len());
        if count > 0 {
            let (gates, ups, outs) = (gates.as_ptr(), ups.as_ptr(), outs.as_mut_ptr());
            // SAFETY: all three have so many steps, and the constants are those that are wanted.
            unsafe { run(gates, ups, outs, &CONSTANTS, count) };
        }
        gated(gates_left, ups_left, outs_left, seldom_exp);
    });
}
