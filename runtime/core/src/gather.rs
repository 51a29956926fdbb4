//! Looking up one row of weights: token embeddings.

use crate::{Error, Operand, Weights};

/// Widens row `row` of `weights` `[rows, columns]` into `out` `[columns]`, straight from the model file's bytes.
///
/// [`PackedLayout::unpack_row`](crate::PackedLayout::unpack_row) does the same from packed weights.
///
/// # Errors
/// [`Error::RowRange`] for a row outside, [`Error::Length`] when `out` has another length.
pub fn gather_row(weights: &Weights<'_>, row: usize, out: &mut [f32]) -> Result<(), Error> {
    if row >= weights.rows() {
        return Err(Error::RowRange);
    }
    if out.len() != weights.columns() {
        return Err(Error::Length(Operand::Output));
    }
    match weights {
        Weights::Block(weights) => {
            let middle = if weights.bits() == 4 { 8.0 } else { 128.0 };
            for (block, out) in out.chunks_mut(weights.block_size().max(1)).enumerate() {
                let scale = weights.scale(row, block);
                let zero_point = weights.centred_zero_point(row, block) + middle;
                let codes = weights.block_codes(row, block);
                if weights.bits() == 4 {
                    for (out, &byte) in out.chunks_mut(2).zip(codes) {
                        for (out, code) in out.iter_mut().zip([byte & 15, byte >> 4]) {
                            *out = scale * (f32::from(code) - zero_point);
                        }
                    }
                } else {
                    for (out, &code) in out.iter_mut().zip(codes) {
                        *out = scale * (f32::from(code) - zero_point);
                    }
                }
            }
        }
        Weights::Dense(weights) => {
            let start = row * weights.columns();
            for (column, out) in out.iter_mut().enumerate() {
                *out = weights.values().get(start + column).unwrap_or(0.0);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockWeights, DenseWeights, Floats, ZeroPoints, f16};

    #[test]
    fn follows_the_formula_of_the_format() {
        // Two rows of 20 columns in blocks of 16: the second block is padded.
        let codes: std::vec::Vec<u8> = (0..2 * 2 * 8).map(|i| (i * 7) as u8).collect();
        let scales = [0.5, 2.0, 1.0, 0.25];
        let zero_points = [0x31, 0x7F];
        let weights = BlockWeights::new(
            4,
            16,
            2,
            20,
            &codes,
            Floats::F32(&scales),
            ZeroPoints::Packed(&zero_points),
        )
        .unwrap();
        let mut row = [0.0; 20];
        gather_row(&weights.into(), 1, &mut row).unwrap();
        for (column, &value) in row.iter().enumerate() {
            let block = column / 16;
            let byte = codes[16 + block * 8 + column % 16 / 2];
            let code = if column % 2 == 0 {
                byte & 15
            } else {
                byte >> 4
            };
            let zero_point = [15.0, 7.0][block];
            assert_eq!(value, scales[2 + block] * (f32::from(code) - zero_point));
        }
        assert!(gather_row(&weights.into(), 2, &mut row).is_err());

        let values = [1.0, 2.0, 3.0, 4.0].map(f16::from_f32);
        let dense = DenseWeights::new(2, 2, Floats::F16(&values)).unwrap();
        let mut row = [0.0; 2];
        gather_row(&dense.into(), 1, &mut row).unwrap();
        assert_eq!(row, [3.0, 4.0]);
    }
}
