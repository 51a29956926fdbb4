//! Rotary position embedding of one head.
//!
//! J. Su and others, «RoFormer: Enhanced Transformer with Rotary Position Embedding», 2021, arXiv
//! 2104.09864. Pairs of values are turned by an angle that grows with the position. The cosines and sines
//! come from the model, `[position, rotary_dim / 2]`; this takes the row of one position.

use crate::vector::for_each_isa;
use crate::{Error, Isa, Operand};

/// Which values form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RopePairs {
    /// `i` with `i + rotary_dim / 2`, as Hugging Face stores Llama weights.
    Halves,
    /// `2i` with `2i + 1`, as the paper has it.
    Neighbours,
}

/// Turns the first `2 * cos.len()` values of `head` in place; the rest stays (partial rotary).
///
/// # Errors
/// [`Error::Length`] when `cos` and `sin` differ or more values than `head` has would be turned.
pub fn rope(
    isa: Isa,
    pairs: RopePairs,
    head: &mut [f32],
    cos: &[f32],
    sin: &[f32],
) -> Result<(), Error> {
    if cos.len() != sin.len() {
        return Err(Error::Length(Operand::RotaryTable));
    }
    let Some(turned) = cos
        .len()
        .checked_mul(2)
        .and_then(|rotary| head.get_mut(..rotary))
    else {
        return Err(Error::Length(Operand::RotaryTable));
    };
    match pairs {
        RopePairs::Halves => {
            let (first, second) = turned.split_at_mut(cos.len());
            halves(isa, first, second, cos, sin);
        }
        RopePairs::Neighbours => neighbours(isa, turned, cos, sin),
    }
    Ok(())
}

for_each_isa! {
    fn halves(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
        // Eight at a time, all read before any is written: else the compiler must take it that they overlap.
        let (firsts, first) = first.as_chunks_mut::<8>();
        let (seconds, second) = second.as_chunks_mut::<8>();
        let ((coss, cos), (sins, sin)) = (cos.as_chunks::<8>(), sin.as_chunks::<8>());
        for (((a, b), c), s) in firsts.iter_mut().zip(seconds).zip(coss).zip(sins) {
            let (mut turned_a, mut turned_b) = ([0.0; 8], [0.0; 8]);
            for i in 0..8 {
                turned_a[i] = a[i] * c[i] - b[i] * s[i];
            }
            for i in 0..8 {
                turned_b[i] = b[i] * c[i] + a[i] * s[i];
            }
            (*a, *b) = (turned_a, turned_b);
        }
        for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}

for_each_isa! {
    fn neighbours(turned: &mut [f32], cos: &[f32], sin: &[f32]) {
        for ((pair, &c), &s) in turned.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
            let [a, b] = *pair;
            *pair = [a * c - b * s, b * c + a * s];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn turns_pairs_and_leaves_the_rest() {
        let angles: Vec<f32> = (0..9).map(|i| i as f32 * 0.3).collect();
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let head: Vec<f32> = (0..20).map(|i| i as f32 - 7.0).collect();
        for pairs in [RopePairs::Halves, RopePairs::Neighbours] {
            let mut want = head.clone();
            for i in 0..9 {
                let (a, b) = match pairs {
                    RopePairs::Halves => (i, i + 9),
                    RopePairs::Neighbours => (2 * i, 2 * i + 1),
                };
                want[a] = head[a] * cos[i] - head[b] * sin[i];
                want[b] = head[b] * cos[i] + head[a] * sin[i];
            }
            for isa in Isa::available() {
                let mut got = head.clone();
                rope(isa, pairs, &mut got, &cos, &sin).unwrap();
                assert_eq!(got, want, "{}", isa.name());
            }
        }
        assert!(rope(Isa::SCALAR, RopePairs::Halves, &mut [0.0; 17], &cos, &sin).is_err());
        assert!(
            rope(
                Isa::SCALAR,
                RopePairs::Halves,
                &mut [0.0; 20],
                &cos[1..],
                &sin
            )
            .is_err()
        );
    }
}
