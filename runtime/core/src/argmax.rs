//! The largest value and where it is.

use crate::Isa;
use crate::math::LANES;
use crate::vector::for_each_isa;

/// Index of the largest value, the first of equals. NaNs count as less than everything; `None` for an
/// empty slice.
pub fn argmax(isa: Isa, values: &[f32]) -> Option<usize> {
    if values.is_empty() {
        return None;
    }
    let largest = max(isa, values);
    Some(position(isa, values, largest).unwrap_or(0))
}

for_each_isa! {
    /// The largest value; NaNs count as less than everything, and so does nothing at all.
    pub fn max(values: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = if value > *lane { value } else { *lane };
        }
        lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
}

for_each_isa! {
    fn position(values: &[f32], wanted: f32) -> Option<usize> {
        const CHUNK: usize = 64;
        let (chunks, rest) = values.as_chunks::<CHUNK>();
        for (index, chunk) in chunks.iter().enumerate() {
            let hits = chunk.iter().fold(0u32, |hits, &value| hits | u32::from(value == wanted));
            if hits != 0 {
                return chunk.iter().position(|&value| value == wanted).map(|at| index * CHUNK + at);
            }
        }
        rest.iter().position(|&value| value == wanted).map(|at| chunks.len() * CHUNK + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn first_of_equals_without_nan() {
        for isa in Isa::available() {
            assert_eq!(argmax(isa, &[]), None);
            assert_eq!(argmax(isa, &[f32::NAN, 1.0, 3.0, 3.0]), Some(2));
            assert_eq!(argmax(isa, &[f32::NAN]), Some(0));
            assert_eq!(argmax(isa, &[f32::NEG_INFINITY; 3]), Some(0));
            for len in [1, 63, 64, 65, 200] {
                for at in 0..len {
                    let mut values: Vec<f32> = (0..len).map(|i| -(i as f32)).collect();
                    values[at] = 1.0;
                    assert_eq!(argmax(isa, &values), Some(at));
                }
            }
        }
    }
}
