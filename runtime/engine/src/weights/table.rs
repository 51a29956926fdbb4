//! A table whose rows are looked up: it stays in the model's file, and a row is widened when it is read.

use furlong_core::gather::gather_row;

use super::SourceView;
use crate::rewrite::{WeightData, WeightSource, ZeroPoints};

/// Rows by index, read in place.
#[derive(Debug)]
pub(crate) struct RowTable {
    source: WeightSource,
}

impl RowTable {
    /// A table that reads from `source`; numbers that lie askew in their file are copied once, here.
    pub(crate) fn new(mut source: WeightSource) -> RowTable {
        source.data = match source.data {
            WeightData::Dense {
                bytes,
                width,
                transposed,
            } => WeightData::Dense {
                bytes: bytes.aligned(4),
                width,
                transposed,
            },
            WeightData::Blocks {
                bits,
                block_size,
                codes,
                scales,
                scale_width,
                zero_points,
            } => {
                let scales = scales.aligned(4);
                let zero_points = match zero_points {
                    ZeroPoints::Float(points) => ZeroPoints::Float(points.aligned(4)),
                    other => other,
                };
                WeightData::Blocks {
                    bits,
                    block_size,
                    codes,
                    scales,
                    scale_width,
                    zero_points,
                }
            }
        };
        RowTable { source }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.source.rows
    }

    /// Numbers a row.
    pub(crate) fn cols(&self) -> usize {
        self.source.cols
    }

    /// Where the rows come from.
    pub(crate) fn source(&self) -> &WeightSource {
        &self.source
    }

    /// Widens rows into `out`, `[indices, cols]`.
    ///
    /// # Errors
    /// As [`gather_row`]: a row that isn't there, or a length that doesn't fit.
    pub(crate) fn gather(
        &self,
        indices: impl Iterator<Item = usize>,
        out: &mut [f32],
    ) -> Result<(), furlong_core::Error> {
        let view = SourceView::new(&self.source);
        let weights = view.weights()?;
        for (row, out) in indices.zip(out.chunks_mut(self.source.cols.max(1))) {
            gather_row(&weights, row, out)?;
        }
        Ok(())
    }
}
