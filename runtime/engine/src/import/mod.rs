//! From a file of a stranger to a graph that can be trusted: decodes ONNX, checks every size and
//! name, keeps the weights in the mapped file, and says which operators can't be run.
//!
//! Order: [`wire`] walks the protobuf bytes, prost decodes what it leaves, [`tensor`] checks each
//! tensor against the bytes that are really there (external files through [`external`]),
//! [`names`] checks that the graph is a graph, [`unsupported`] lists what nothing can run.

mod attributes;
mod bytes;
mod element;
mod external;
pub(crate) mod guard;
mod names;
mod resolver;
mod source;
mod tensor;
mod unsupported;
mod wire;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use tract_onnx::pb;

pub use bytes::TensorBytes;
pub use element::ElementType;
pub use tensor::TensorData;
pub use unsupported::{UnsupportedOp, UnsupportedOps};

pub(crate) use resolver::TableResolver;
pub(crate) use source::{FileStamp, SourceFile};

use crate::{Error, ModelFiles};
use external::ExternalFiles;

/// The model file of a folder.
const MODEL_FILE: &str = "model.onnx";

/// The largest model file that is read: protobuf itself stops at 2 GiB, external data doesn't.
const MAX_MODEL_BYTES: usize = i32::MAX as usize;

/// The most axes of a tensor: tract's own limit is looser, but no transformer needs more.
const MAX_RANK: usize = 8;

const EXPORT_AGAIN: &str = "fetch or export the model again";

/// An [`Error::Invalid`] that ends with what to do.
fn invalid(
    file: &Path,
    place: impl Into<String>,
    reason: impl Into<String>,
    advice: &str,
) -> Error {
    Error::invalid(file, place, format!("{}; {advice}", reason.into()))
}

/// A decoded, checked ONNX model, whose weights are still in their files.
///
/// The proto inside is ordinary, but no tensor in it carries data: those with a payload say
/// "external data" with an index into this model's table as offset. tract loads them through
/// `resolver`; everything else calls [`OnnxModel::tensor`].
#[derive(Debug, Clone)]
pub struct OnnxModel {
    path: PathBuf,
    proto: pb::ModelProto,
    table: Arc<Vec<TensorBytes>>,
    /// The files it was read from, the model's own first; none for a model that was in memory.
    files: Arc<Vec<SourceFile>>,
}

impl OnnxModel {
    /// Reads and checks the model file at `path`, or `model.onnx` in the folder `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when a file can't be read, [`Error::Invalid`] when its content breaks a rule
    /// of the format or a bound.
    pub fn open(path: &Path) -> Result<OnnxModel, Error> {
        let path = if path.is_dir() {
            path.join(MODEL_FILE)
        } else {
            path.to_path_buf()
        };
        let file = TensorBytes::map_source(&path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut external = ExternalFiles::in_folder(folder);
        let mut model = OnnxModel::decode(path, &file.bytes, &mut external)?;
        model.files = Arc::new([file].into_iter().chain(external.into_files()).collect());
        Ok(model)
    }

    /// Reads and checks `model.onnx` among the files of a model, wherever they are.
    ///
    /// # Errors
    /// As [`OnnxModel::open`].
    pub fn open_files(files: &ModelFiles) -> Result<OnnxModel, Error> {
        let embedded = match files {
            ModelFiles::Folder(folder) => return OnnxModel::open(folder),
            ModelFiles::Embedded(embedded) => embedded,
        };
        let path = files.path(MODEL_FILE);
        let Some(bytes) = embedded.file(MODEL_FILE) else {
            return Err(invalid(
                &path,
                "the model",
                "it has no such file",
                "embed it",
            ));
        };
        let mut external = ExternalFiles::embedded(*embedded);
        OnnxModel::decode(path, &TensorBytes::fixed(bytes), &mut external)
    }

    /// Reads and checks a model that is in memory. It can't have external data. This is what a
    /// fuzzer calls.
    ///
    /// # Errors
    /// [`Error::Invalid`], as [`OnnxModel::open`].
    pub fn from_bytes(bytes: &[u8]) -> Result<OnnxModel, Error> {
        let file = TensorBytes::owned(bytes.to_vec());
        OnnxModel::decode(PathBuf::from("<memory>"), &file, &mut ExternalFiles::none())
    }

    fn decode(
        path: PathBuf,
        file: &TensorBytes,
        external: &mut ExternalFiles,
    ) -> Result<OnnxModel, Error> {
        if file.len() > MAX_MODEL_BYTES {
            return Err(invalid(
                &path,
                "the file",
                format!(
                    "it has {} bytes, and a protobuf file has at most 2 GiB",
                    file.len()
                ),
                "export it with external data",
            ));
        }
        let skeleton = wire::strip_payloads(file).map_err(|e| {
            let place = format!("byte {}", e.offset);
            invalid(
                &path,
                place,
                format!("not an ONNX file: {}", e.reason),
                EXPORT_AGAIN,
            )
        })?;
        let mut proto = pb::ModelProto::decode(&*skeleton.bytes)
            .map_err(|e| invalid(&path, "the protobuf message", e.to_string(), EXPORT_AGAIN))?;
        if proto.graph.is_none() {
            return Err(invalid(&path, "the model", "it has no graph", EXPORT_AGAIN));
        }
        let table = tensor::check_all(&path, file, &skeleton.payloads, external, &mut proto)?;
        names::check(&path, &mut proto)?;
        if let Some(graph) = &proto.graph {
            attributes::check(&path, graph)?;
        }
        Ok(OnnxModel {
            path,
            proto,
            table: Arc::new(table),
            files: Arc::default(),
        })
    }

    /// The model file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that the model file is in: its tokenizer and configuration are beside it.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The files it was read from, the model's own first; none for a model that was in memory.
    pub(crate) fn files(&self) -> &Arc<Vec<SourceFile>> {
        &self.files
    }

    /// The decoded model, whose tensors carry no data (see [`OnnxModel`]).
    pub fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    /// The decoded model, to be rewritten. Payload indices in it must be left as they are.
    pub fn proto_mut(&mut self) -> &mut pb::ModelProto {
        &mut self.proto
    }

    /// The top-level graph.
    pub fn graph(&self) -> &pb::GraphProto {
        static EMPTY: std::sync::LazyLock<pb::GraphProto> =
            std::sync::LazyLock::new(pb::GraphProto::default);
        self.proto.graph.as_ref().unwrap_or(&EMPTY)
    }

    /// The value of `key` in `metadata_props`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.proto
            .metadata_props
            .iter()
            .find(|p| p.key == key)
            .map(|p| p.value.as_str())
    }

    /// The version of operator set `domain` ("" or "ai.onnx" is the standard one) that the model
    /// imports.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        opset(&self.proto, domain)
    }

    /// The data of a tensor in this model's proto, without copying it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tensor that isn't one of this model's, or holds strings.
    pub fn tensor(&self, proto: &pb::TensorProto) -> Result<TensorData, Error> {
        tensor::data_of(&self.path, proto, &self.table)
    }

    /// The top-level initialiser called `name`, without copying it; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it holds strings.
    pub fn initialiser(&self, name: &str) -> Result<Option<TensorData>, Error> {
        let found = self.graph().initializer.iter().find(|t| t.name == name);
        found.map(|t| self.tensor(t)).transpose()
    }

    /// All top-level initialisers by name (strings left out), for rewrites that look up many.
    pub fn initialisers(&self) -> HashMap<&str, &pb::TensorProto> {
        self.graph()
            .initializer
            .iter()
            .map(|t| (t.name.as_str(), t))
            .collect()
    }

    /// Adds a tensor of our own making to the top-level initialisers: `bytes` little-endian,
    /// row-major, of the length that `element` and `dims` ask for.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the length is wrong.
    pub fn add_initialiser(
        &mut self,
        name: &str,
        element: ElementType,
        dims: &[usize],
        bytes: TensorBytes,
    ) -> Result<(), Error> {
        let proto = tensor::describe(&self.path, name, element, dims, &bytes, self.table.len())?;
        if !bytes.is_empty() {
            Arc::make_mut(&mut self.table).push(bytes);
        }
        if let Some(graph) = self.proto.graph.as_mut() {
            graph.initializer.push(proto);
        }
        Ok(())
    }

    /// What tract asks for the data of the tensors that are left in the proto: give it as
    /// `Onnx::provider`, and [`TableResolver::MODEL_DIR`] as the model's folder.
    pub(crate) fn resolver(&self) -> TableResolver {
        TableResolver::new(self.table.clone())
    }

    /// Every operator of the graph (and its subgraphs) for which `known(op_type, domain)` is
    /// false, all of them in one error.
    ///
    /// # Errors
    /// [`Error::UnsupportedOps`].
    pub fn check_supported(&self, known: impl Fn(&pb::NodeProto) -> bool) -> Result<(), Error> {
        unsupported::check(self, known)
    }
}

fn opset(proto: &pb::ModelProto, domain: &str) -> Option<i64> {
    let standard = |d: &str| d.is_empty() || d == "ai.onnx";
    let same = |d: &str| d == domain || (standard(d) && standard(domain));
    proto
        .opset_import
        .iter()
        .find(|o| same(&o.domain))
        .map(|o| o.version)
}
