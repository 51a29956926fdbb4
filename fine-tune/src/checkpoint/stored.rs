//! One tensor as it lies in a file, and how it becomes what Hugging Face would have stored.

use std::ops::Range;
use std::path::Path;

use super::elements::Elements;
use super::files::Mapped;
use super::tensor::Tensor;
use crate::error::{Error, Result};

/// A tensor in one of a checkpoint's files.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Which of the checkpoint's files.
    pub file: usize,
    /// Storage format, or the name of one that isn't ours.
    pub elements: std::result::Result<Elements, String>,
    /// Shape in the file, in row order.
    pub shape: Vec<usize>,
    /// Bytes in the file.
    pub range: Range<usize>,
    /// How the file's layout differs from Hugging Face's.
    pub layout: Layout,
}

/// How a stored tensor differs from Hugging Face's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Not at all.
    Same,
    /// Rows and columns are swapped.
    Transposed,
    /// The rows of each of `heads` heads are in the order of interleaved rotation: 0, half, 1, half + 1, …
    Interleaved {
        /// Number of heads among the rows.
        heads: usize,
    },
}

impl Stored {
    /// Checks that the tensor can be read and has `shape` once its layout is undone.
    pub fn check(&self, path: &Path, name: &str, shape: &[usize]) -> Result<()> {
        let elements = self.elements(path, name)?;
        let mut found = self.shape.clone();
        match self.layout {
            Layout::Transposed => found.reverse(),
            Layout::Interleaved { heads } => {
                let rows = found.first().copied().unwrap_or(0);
                if heads == 0 || rows % heads != 0 || (rows / heads) % 2 != 0 {
                    return Err(Error::malformed(
                        path,
                        format!("tensor {name}"),
                        format!("{rows} rows don't divide into {heads} heads of even width"),
                    ));
                }
            }
            Layout::Same => {}
        }
        if found != shape {
            return Err(Error::Shape {
                path: path.to_owned(),
                name: name.to_owned(),
                found,
                expected: shape.to_vec(),
            });
        }
        if elements.bytes_of(&self.shape) != Some(self.range.len()) {
            return Err(Error::malformed(
                path,
                format!("tensor {name}"),
                format!(
                    "{} bytes don't hold {:?} of {elements:?}",
                    self.range.len(),
                    self.shape
                ),
            ));
        }
        Ok(())
    }

    /// Reads the tensor from `file` and gives it `shape`, which [`check`](Stored::check) has seen.
    pub fn read(&self, file: &Mapped, name: &str, shape: &[usize]) -> Result<Tensor> {
        let elements = self.elements(file.path(), name)?;
        let bytes = file.bytes().get(self.range.clone()).ok_or_else(|| {
            Error::malformed(
                file.path(),
                format!("tensor {name}"),
                "its bytes lie outside the file",
            )
        })?;
        let tensor = Tensor {
            shape: self.shape.clone(),
            data: elements.decode(bytes),
        };
        let tensor = match self.layout {
            Layout::Same => tensor,
            Layout::Transposed => tensor.transposed(),
            Layout::Interleaved { heads } => tensor.half_rotated(heads),
        };
        debug_assert_eq!(tensor.shape, shape);
        Ok(tensor)
    }

    fn elements(&self, path: &Path, name: &str) -> Result<Elements> {
        self.elements.clone().map_err(|other| {
            Error::unsupported(
                path,
                format!("format of tensor {name}"),
                other,
                "F32, F16, BF16; in GGUF also Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K",
            )
        })
    }
}
