//! Putting the results of an evaluation into a model's cards and into its metadata.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{RESULTS_FILE, replace, write};
use crate::checkpoint::Mapped;
use crate::error::{Error, Result};
use crate::evaluation::{Evaluation, Summary, TestSet};
use crate::export::MODEL_FILE;
use crate::onnx::proto::{ModelProto, StringStringEntryProto};

/// The key of the results in the model's metadata.
const KEY: &str = "furlong.evaluation";
/// The largest model file that is rewritten, in bytes. Its big tensors are in another file.
const MODEL_LIMIT: usize = 256 << 20;

/// Results, as they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The test set.
    pub data: TestSet,
    /// The name of the adapter that this model answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The base model on it, if that was measured.
    pub before: Option<Summary>,
    /// This model on it.
    pub after: Summary,
}

/// Writes results into the folder of a model that [`export`](crate::export::export) wrote: `evaluation.json`, the cards, and
/// the model's metadata. What was recorded before is replaced.
///
/// # Errors
/// When the model file isn't one of ours, or a file can't be written.
pub fn record(folder: &Path, evaluation: &Evaluation, before: Option<Summary>) -> Result<()> {
    let results = Results {
        data: evaluation.data.clone(),
        adapter: evaluation
            .adapter
            .as_deref()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned()),
        before,
        after: evaluation.summary.clone(),
    };
    let path = folder.join(MODEL_FILE);
    let compact =
        serde_json::to_string(&results).map_err(|error| Error::io(&path)(error.into()))?;
    let pretty =
        serde_json::to_string_pretty(&results).map_err(|error| Error::io(&path)(error.into()))?;

    let mut model = read(&path)?;
    model.metadata_props.retain(|entry| entry.key != KEY);
    model.metadata_props.push(StringStringEntryProto {
        key: KEY.to_owned(),
        value: compact,
    });
    replace(&path, &model.encode_to_vec())?;
    replace(&folder.join(RESULTS_FILE), format!("{pretty}\n").as_bytes())?;
    let metadata: BTreeMap<String, String> = model
        .metadata_props
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect();
    write(folder, &metadata)?;
    Ok(())
}

/// Decodes a model file, and makes sure that it comes out the same when it is written again.
fn read(path: &Path) -> Result<ModelProto> {
    let refuse = |reason: &str| Error::Data {
        path: path.to_owned(),
        reason: format!("{reason}, so that results can't be recorded in it; leave out --record"),
    };
    let file = Mapped::open(path)?;
    if file.bytes().len() > MODEL_LIMIT {
        return Err(refuse(
            "the file is larger than any that `fine-tune export` writes",
        ));
    }
    let model = ModelProto::decode(file.bytes()).map_err(|error| refuse(&error.to_string()))?;
    if model.encode_to_vec() != file.bytes() {
        return Err(refuse("the model wasn't written by `fine-tune export`"));
    }
    Ok(model)
}
