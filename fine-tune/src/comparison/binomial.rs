//! The binomial distribution: how often a coin falls on one side.

use super::Interval;

/// The 97.5 % quantile of the normal distribution: 95 % lie within.
pub(crate) const Z_95: f64 = 1.959_963_985;

/// The probability that a fair coin, thrown `throws` times, is at least as far from half as `heads`: the two-sided sign
/// test, exact.
pub(crate) fn sign_test(heads: u64, throws: u64) -> f64 {
    let fewer = heads.min(throws - heads.min(throws));
    if 2 * fewer == throws {
        return 1.0;
    }
    // ln C(throws, k) − throws · ln 2, from k − 1 to k.
    let mut logarithm = -(throws as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        if k > 0 {
            logarithm += ((throws - k + 1) as f64).ln() - (k as f64).ln();
        }
        tail += logarithm.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Where a share lies with 95 % confidence: E. B. Wilson, «Probable Inference, the Law of Succession, and Statistical
/// Inference», JASA 1927.
pub(crate) fn wilson(hits: f64, of: f64) -> Option<Interval> {
    if of <= 0.0 {
        return None;
    }
    let (share, z2) = (hits / of, Z_95 * Z_95);
    let middle = share + z2 / (2.0 * of);
    let width = Z_95 * (share * (1.0 - share) / of + z2 / (4.0 * of * of)).sqrt();
    let scale = 1.0 + z2 / of;
    Some(Interval {
        low: ((middle - width) / scale).max(0.0),
        high: ((middle + width) / scale).min(1.0),
    })
}
