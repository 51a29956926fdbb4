//! The plain kernel: the oracle, and what a CPU without a kernel of its own takes.

use super::{Dots, Implementation, Panel, ROW_TILE, nothing};

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-scalar",
    dots,
    begin: nothing,
    end: nothing,
};

/// # Safety
/// See [`super::DotsFn`].
unsafe fn dots(call: &Dots, panel: &mut Panel) {
    for (token, panel) in panel.iter_mut().take(call.tokens).enumerate() {
        for (tile, sums) in panel.iter_mut().take(call.tiles).enumerate() {
            *sums = [0; ROW_TILE];
            for group in 0..call.columns / 4 {
                // SAFETY: the caller's promise: the token has these codes, the tile these groups of 64.
                let (codes, weights) = unsafe {
                    let at = call.activations.add(token * call.stride + group * 4);
                    let weights = call.weights.add(tile * call.tile_bytes + group * 64);
                    (
                        *at.cast::<[u8; 4]>(),
                        &*weights.cast::<[[i8; 4]; ROW_TILE]>(),
                    )
                };
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    for (&weight, code) in weights.iter().zip(codes) {
                        *sum += i32::from(weight) * i32::from(code);
                    }
                }
            }
        }
    }
}
