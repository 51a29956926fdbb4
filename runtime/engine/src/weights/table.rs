//! A table whose rows are looked up: it stays in the model's file, or is the packed output layer where the two
//! are one matrix, and a row is widened when it is read.

use std::sync::Arc;

use furlong_core::gather::gather_row;

use super::{PackedLinear, SourceView, file_bytes, format_name};
use crate::rewrite::{WeightData, WeightSource, ZeroPoints};

/// Rows by index, read in place.
#[derive(Debug)]
pub(crate) struct RowTable {
    rows: usize,
    cols: usize,
    format: String,
    place: Place,
}

/// Where the rows are read from.
#[derive(Debug)]
enum Place {
    File(WeightSource),
    /// The output layer's packed bytes, which the model keeps in memory anyway.
    Head(Arc<PackedLinear>),
}

impl RowTable {
    /// A table that reads from `source`; numbers that lie askew in their file are copied once, here.
    pub(crate) fn in_file(mut source: WeightSource) -> RowTable {
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
        RowTable {
            rows: source.rows,
            cols: source.cols,
            format: format_name(&source).into_owned(),
            place: Place::File(source),
        }
    }

    /// The table that the output layer `head` was packed from too.
    pub(super) fn tied(head: &Arc<PackedLinear>, source: &WeightSource) -> RowTable {
        RowTable {
            rows: source.rows,
            cols: source.cols,
            format: format_name(source).into_owned(),
            place: Place::Head(head.clone()),
        }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers a row.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// How the model stores them.
    pub(crate) fn format(&self) -> &str {
        &self.format
    }

    /// Bytes that are read for one row.
    pub(crate) fn row_bytes(&self) -> usize {
        let all = match &self.place {
            Place::File(source) => file_bytes(source),
            Place::Head(head) => head.matrices().iter().map(|matrix| matrix.bytes()).sum(),
        };
        all / self.rows.max(1)
    }

    /// Bytes that the table takes beside the linear layers: none if it is one of them.
    pub(crate) fn bytes(&self) -> usize {
        match &self.place {
            Place::File(source) => file_bytes(source),
            Place::Head(_) => 0,
        }
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
        let mut rows = indices.zip(out.chunks_mut(self.cols.max(1)));
        match &self.place {
            Place::File(source) => {
                let view = SourceView::new(source);
                let weights = view.weights()?;
                rows.try_for_each(|(row, out)| gather_row(&weights, row, out))
            }
            Place::Head(head) => rows.try_for_each(|(row, out)| head.row(row, out)),
        }
    }
}
