//! A tensor as the rest of the crate sees it: a shape and f32 values.

/// A dense tensor in row order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Shape; its product is the length of `data`.
    pub shape: Vec<usize>,
    /// Values in row order.
    pub data: Vec<f32>,
}

impl Tensor {
    /// The matrix `[cols, rows]` of a matrix `[rows, cols]`; a tensor of another rank comes back as it is.
    pub fn transposed(self) -> Tensor {
        let [rows, cols] = self.shape[..] else {
            return self;
        };
        let column = |col: usize| self.data.iter().skip(col).step_by(cols.max(1)).copied();
        Tensor {
            shape: vec![cols, rows],
            data: (0..cols).flat_map(column).collect(),
        }
    }

    /// Undoes the order of rows that llama.cpp's converter gives q and k: in each of `heads` heads, row `2j + side` goes back
    /// to row `side * half + j`, where rotate-half wants it.
    pub(super) fn half_rotated(self, heads: usize) -> Tensor {
        let rows = self.shape.first().copied().unwrap_or(0);
        let (width, half) = (self.data.len() / rows.max(1), rows / heads.max(1) / 2);
        let mut data = Vec::with_capacity(self.data.len());
        for head in self.data.chunks((width * half * 2).max(1)) {
            for side in 0..2 {
                for pair in head.chunks((width * 2).max(1)) {
                    data.extend(pair.iter().skip(side * width).take(width));
                }
            }
        }
        Tensor {
            shape: self.shape,
            data,
        }
    }
}
