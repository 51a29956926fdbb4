//! Reading what independent implementations made, and where the test command left it.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// The folder of models and references that `cargo xtask test` makes.
///
/// # Panics
/// When `FURLONG_MODELS` is not set: these tests are run by `cargo xtask test`.
pub fn models_folder() -> PathBuf {
    std::env::var_os("FURLONG_MODELS")
        .map(PathBuf::from)
        .expect("FURLONG_MODELS is not set; `cargo xtask test` makes the models and sets it")
}

/// Named arrays of a safetensors file.
#[derive(Debug)]
pub struct Reference {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Reference {
    /// Reads a file.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            path: path.to_owned(),
            bytes,
        }
    }

    /// An i64 array of token ids.
    ///
    /// # Panics
    /// When there is no such array, or it holds what is no token id.
    pub fn tokens(&self, name: &str) -> Vec<u32> {
        self.elements(name, Dtype::I64)
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight bytes")))
            .map(|id| u32::try_from(id).expect("a token id"))
            .collect()
    }

    /// An f32 array.
    ///
    /// # Panics
    /// When there is no such array.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.elements(name, Dtype::F32)
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect()
    }

    fn elements(&self, name: &str, dtype: Dtype) -> Vec<u8> {
        let fail = |what: String| -> ! { panic!("{}: {name}: {what}", self.path.display()) };
        let file = SafeTensors::deserialize(&self.bytes).unwrap_or_else(|e| fail(e.to_string()));
        let view = file.tensor(name).unwrap_or_else(|e| fail(e.to_string()));
        if view.dtype() != dtype {
            fail(format!("is {:?}, not {dtype:?}", view.dtype()));
        }
        view.data().to_vec()
    }
}

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}
