//! The op that makes one row of many: the embedding of a sentence, or what a classifier looks at.

use super::BufferId;
use super::execute::{Execution, Progress, first_rows, split};
use crate::math::sqrt;

/// The least length that a row is divided by, as the reference has it: it only matters for rows of zeros.
const LEAST_LENGTH: f32 = 1e-12;

impl Execution<'_, '_> {
    /// `out = mean of the rows of x`, or its first row; then scaled to length 1 if asked for.
    pub(super) fn pool(
        &mut self,
        x: BufferId,
        out: BufferId,
        first: bool,
        normalise: bool,
    ) -> Progress {
        let (rows, columns) = self.shape(x)?;
        let [x, out] = split(self.plan, self.arena, [x, out])?;
        let x = first_rows(x, rows, columns)?;
        let out = first_rows(out, 1, columns)?;
        let rows = if first { 1 } else { rows };
        out.fill(0.0);
        for row in x.chunks_exact(columns.max(1)).take(rows) {
            let sums = out.iter_mut().zip(row);
            sums.for_each(|(sum, value)| *sum += value);
        }
        let mut factor = 1.0 / rows as f32;
        if normalise {
            let square = out.iter().fold(0.0f32, |sum, value| sum + value * value);
            let length = sqrt(square);
            factor = 1.0
                / if length > LEAST_LENGTH {
                    length
                } else {
                    LEAST_LENGTH
                };
        }
        out.iter_mut().for_each(|value| *value *= factor);
        Ok(None)
    }
}
