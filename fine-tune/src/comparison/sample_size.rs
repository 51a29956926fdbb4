//! How large a test set must be for a difference to show.
//!
//! For a two-sided test at level α with power 1 − β, by the normal approximation: n = ((z_{1−α/2} + z_{1−β}) · σ / δ)²,
//! where σ is the standard deviation of one line's difference (J. Cohen, «Statistical Power Analysis for the Behavioral
//! Sciences», 1988).

use super::binomial::Z_95;

/// The level of the test.
pub const ALPHA: f64 = 0.05;
/// The probability to see a difference that is there.
pub const POWER: f64 = 0.8;
/// The 80 % quantile of the normal distribution.
const Z_POWER: f64 = 0.841_621_234;

/// Lines that a paired comparison needs to show `difference`, when it has this standard error with `lines` lines. `None` when
/// nothing varies, so that no size can be told.
pub fn paired(difference: f64, standard_error: f64, lines: usize) -> Option<u64> {
    let deviation = standard_error * (lines as f64).sqrt();
    size((Z_95 + Z_POWER) * deviation / difference)
}

/// Preferences, ties left out, that a sign test needs to show a share of `0.5 + difference`.
pub fn preferences(difference: f64) -> Option<u64> {
    let share = 0.5 + difference;
    if !(0.5..1.0).contains(&share) {
        return None;
    }
    size((Z_95 * 0.5 + Z_POWER * (share * (1.0 - share)).sqrt()) / difference)
}

fn size(root: f64) -> Option<u64> {
    let lines = (root * root).ceil();
    (lines.is_finite() && (1.0..9e18).contains(&lines)).then_some(lines as u64)
}
