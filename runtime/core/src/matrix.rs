//! An output matrix that several threads can fill at once.

use crate::{Error, Operand};
use core::marker::PhantomData;

/// A mutable view of an f32 matrix `[rows, columns]` whose rows lie `stride` values apart.
///
/// Rows are tokens, columns are output features. [`MatrixMut::split_at_column`] divides it into two
/// views that share no element, so that each may go to another thread although they interleave in
/// memory; slices cannot express that.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: the view is the only way to its elements for `'a`, as `&mut [f32]` would be.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// A view of `values`, dense: `values.len()` must be `rows * columns`.
    ///
    /// # Errors
    /// [`Error::Length`] when the lengths disagree.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Result<Self, Error> {
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(Error::Length(Operand::Output));
        }
        Ok(MatrixMut {
            first: values.as_mut_ptr(),
            rows,
            columns,
            stride: columns,
            owner: PhantomData,
        })
    }

    /// A view of the first `columns` of rows that lie `stride` values apart in `values`.
    ///
    /// # Errors
    /// [`Error::Length`] when `columns > stride` or the last row does not fit.
    pub fn with_stride(
        values: &'a mut [f32],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Result<Self, Error> {
        let needed = match rows.checked_sub(1) {
            None => Some(0),
            Some(last) => last
                .checked_mul(stride)
                .and_then(|start| start.checked_add(columns)),
        };
        if columns > stride || needed.is_none_or(|needed| needed > values.len()) {
            return Err(Error::Length(Operand::Output));
        }
        Ok(MatrixMut {
            first: values.as_mut_ptr(),
            rows,
            columns,
            stride,
            owner: PhantomData,
        })
    }

    /// Number of rows (tokens).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (features).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Distance between the starts of two rows, in values.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Divides the view in two: columns before `column`, and the rest. A `column` past the end
    /// leaves the second view empty.
    pub fn split_at_column(self, column: usize) -> (MatrixMut<'a>, MatrixMut<'a>) {
        let column = column.min(self.columns);
        let right = MatrixMut {
            first: self.first.wrapping_add(column),
            rows: self.rows,
            columns: self.columns - column,
            stride: self.stride,
            owner: PhantomData,
        };
        (
            MatrixMut {
                columns: column,
                ..self
            },
            right,
        )
    }

    /// The same view for a shorter time, so that it can be used again afterwards.
    pub fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut {
            first: self.first,
            rows: self.rows,
            columns: self.columns,
            stride: self.stride,
            owner: PhantomData,
        }
    }

    /// One row as a slice, or `None` past the end.
    pub fn row_mut(&mut self, row: usize) -> Option<&mut [f32]> {
        if row >= self.rows {
            return None;
        }
        // SAFETY: the constructors checked that every row's `columns` values lie inside the borrowed
        // slice, and no other view has these columns.
        Some(unsafe {
            core::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns)
        })
    }

    /// Pointer to the first element; row `r` starts `r * stride()` values on.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_split_between_threads() {
        let mut values = std::vec![0.0; 3 * 10];
        let whole = MatrixMut::new(&mut values, 3, 10).unwrap();
        let (mut left, right) = whole.split_at_column(4);
        let (mut middle, mut last) = right.split_at_column(99);
        assert_eq!(
            (last.columns(), last.row_mut(0).map(|r| r.len())),
            (0, Some(0))
        );
        std::thread::scope(|scope| {
            scope.spawn(move || (0..3).for_each(|r| left.row_mut(r).unwrap().fill(1.0)));
            scope.spawn(move || (0..3).for_each(|r| middle.row_mut(r).unwrap().fill(2.0)));
        });
        for row in values.chunks(10) {
            assert_eq!(row, [1., 1., 1., 1., 2., 2., 2., 2., 2., 2.]);
        }
    }

    #[test]
    fn bounds_are_checked() {
        let mut values = [0.0; 10];
        assert!(MatrixMut::new(&mut values, 3, 4).is_err());
        assert!(MatrixMut::new(&mut values, usize::MAX, 2).is_err());
        assert!(MatrixMut::with_stride(&mut values, 2, 4, 7).is_err());
        assert!(MatrixMut::with_stride(&mut values, 2, 4, 3).is_err());
        assert!(MatrixMut::with_stride(&mut values, usize::MAX, 4, usize::MAX).is_err());
        let mut view = MatrixMut::with_stride(&mut values, 2, 4, 6).unwrap();
        assert!(view.row_mut(1).is_some() && view.row_mut(2).is_none());
        assert!(
            MatrixMut::with_stride(&mut values, 0, 4, 6)
                .unwrap()
                .row_mut(0)
                .is_none()
        );
    }
}
