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
        let data = (0..cols)
            .flat_map(|col| self.data.iter().skip(col).step_by(cols.max(1)).copied())
            .collect();
        Tensor {
            shape: vec![cols, rows],
            data,
        }
    }
}
