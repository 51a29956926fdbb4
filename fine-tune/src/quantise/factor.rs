//! `A = L D Lᵀ` of a symmetric positive definite matrix, in place.
//!
//! G. Golub and C. Van Loan, «Matrix Computations», section 4.1: the blocked, right-looking form, with rows shared among threads.
//! Every number is computed by one thread in one order, so the result doesn't depend on how many there are.

use rayon::prelude::*;

/// Columns that are finished before the rest is brought up to date.
const PANEL: usize = 64;

/// Replaces the lower triangle of `a` `[n, n]` by L, whose diagonal of ones is where D is. Says whether all of D is positive and
/// finite; if not, what `a` holds means nothing.
pub(super) fn ldl(a: &mut [f64], n: usize) -> bool {
    for start in (0..n).step_by(PANEL) {
        let end = n.min(start + PANEL);
        let (done, below) = a.split_at_mut(end * n);
        if !diagonal_block(done, n, start..end) {
            return false;
        }
        let (done, width) = (&*done, end - start);
        let pivots: Vec<f64> = (start..end).map(|j| done[j * n + j]).collect();
        below.par_chunks_mut(n).for_each(|row| {
            for j in start..end {
                let above = &done[j * n + start..j * n + j];
                let sum = weighted(&row[start..j], above, &pivots);
                row[j] = (row[j] - sum) / pivots[j - start];
            }
        });
        // The finished columns of all rows below, and the same times D.
        let panel: Vec<f64> = below
            .chunks_exact(n)
            .flat_map(|row| row[start..end].iter().copied())
            .collect();
        below
            .par_chunks_mut(n)
            .zip(panel.par_chunks(width))
            .enumerate()
            .for_each(|(index, (row, own))| {
                let own: Vec<f64> = own.iter().zip(&pivots).map(|(l, d)| l * d).collect();
                let others = panel.chunks_exact(width).take(index + 1);
                for (place, other) in row[end..].iter_mut().zip(others) {
                    *place -= dot(&own, other);
                }
            });
    }
    true
}

/// The block on the diagonal, whose rows are the last of `rows`.
fn diagonal_block(rows: &mut [f64], n: usize, block: std::ops::Range<usize>) -> bool {
    let start = block.start;
    for j in block.clone() {
        for i in j..block.end {
            let mut sum = rows[i * n + j];
            for p in start..j {
                sum -= rows[i * n + p] * rows[j * n + p] * rows[p * n + p];
            }
            rows[i * n + j] = if i == j { sum } else { sum / rows[j * n + j] };
        }
        let pivot = rows[j * n + j];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
    }
    true
}

/// `Σ a · b · weight`.
fn weighted(a: &[f64], b: &[f64], weights: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .zip(weights)
        .map(|((a, b), w)| a * b * w)
        .sum()
}

/// `Σ a · b`, in four sums that a vector register holds.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_multiply_to_the_matrix() {
        for n in [1, 5, 64, 65, 200] {
            // Positive definite by its diagonal.
            let entry = |i: usize, j: usize| {
                let (low, high) = (i.min(j), i.max(j));
                let value = ((low * 31 + high * 17) % 23) as f64 / 23.0 - 0.5;
                if i == j { n as f64 + value } else { value }
            };
            let mut a: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            assert!(ldl(&mut a, n));
            let l = |i: usize, p: usize| if i == p { 1.0 } else { a[i * n + p] };
            for i in 0..n {
                for j in 0..=i {
                    let product: f64 = (0..=j).map(|p| l(i, p) * a[p * n + p] * l(j, p)).sum();
                    assert!(
                        (product - entry(i, j)).abs() < 1e-9 * n as f64,
                        "{n}: {i} {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_noticed() {
        assert!(!ldl(&mut [1.0, 2.0, 2.0, 1.0], 2));
        assert!(!ldl(&mut [0.0], 1));
        assert!(!ldl(&mut [f64::NAN], 1));
        let mut singular = vec![1.0; 100 * 100];
        assert!(!ldl(&mut singular, 100));
    }
}
