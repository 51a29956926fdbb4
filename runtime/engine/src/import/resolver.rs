//! tract's way to external data, closed: it gets tensors from our table and opens no file.

use std::path::Path;
use std::sync::Arc;

use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::{anyhow, ensure};

use super::TensorBytes;

/// Answers tract's requests for external data from a model's table of checked tensors. The
/// offset that tract asks for is an index into that table.
pub(crate) struct TableResolver {
    table: Arc<Vec<TensorBytes>>,
}

impl TableResolver {
    /// tract insists on a model folder that exists; nothing is read from it.
    pub const MODEL_DIR: &'static str = if cfg!(windows) { "\\" } else { "/" };
    /// The location that each tensor of a checked model names: the folder itself.
    pub const LOCATION: &'static str = ".";

    pub fn new(table: Arc<Vec<TensorBytes>>) -> TableResolver {
        TableResolver { table }
    }
}

impl ModelDataResolver for TableResolver {
    fn read_bytes_from_path(
        &self,
        buf: &mut Vec<u8>,
        _path: &Path,
        offset: usize,
        length: Option<usize>,
    ) -> TractResult<()> {
        let tensor = self
            .table
            .get(offset)
            .ok_or_else(|| anyhow!("no tensor {offset}"))?;
        ensure!(
            length == Some(tensor.len()),
            "tensor {offset} has another length"
        );
        buf.extend_from_slice(tensor);
        Ok(())
    }
}
