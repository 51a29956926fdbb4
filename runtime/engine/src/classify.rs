//! What a text is: models whose one output are the logits of classes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Model, ModelKind};

/// The output of a classifier.
const LOGITS: &str = "logits";
/// The key of the classes in a model's metadata: a JSON list of their names.
const KEY: &str = "furlong.labels";
/// The largest configuration file that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What a Hugging Face config says of classes.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    id2label: Option<BTreeMap<usize, String>>,
}

impl Model {
    /// Whether the model tells what a text is: an encoder with the single output `logits`.
    pub fn is_classifier(&self) -> bool {
        self.kind() == ModelKind::Encoder && self.inner.compiled.outputs == [LOGITS]
    }

    /// The names of a classifier's classes, in the order of their probabilities: from the model's metadata, else from the
    /// `id2label` of the `config.json` beside it.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model that is no classifier or doesn't name its classes, [`Error::Invalid`] for names that can't be read.
    pub fn labels(&self) -> Result<Vec<String>, Error> {
        if !self.is_classifier() {
            return Err(Error::Usage(format!(
                "{} doesn't tell classes; that needs an encoder with the one output {LOGITS:?}",
                self.path().display()
            )));
        }
        if let Some(text) = self.metadata(KEY) {
            return serde_json::from_str(text)
                .map_err(|error| Error::invalid(self.path(), KEY, error.to_string()));
        }
        let path = self.folder().join("config.json");
        let names = named(&path)?.unwrap_or_default();
        let numbered = names.keys().enumerate().all(|(index, key)| index == *key);
        if names.is_empty() || !numbered {
            return Err(Error::Usage(format!(
                "{} doesn't name its classes; put an \"id2label\" with numbers from 0 into {}",
                self.path().display(),
                path.display()
            )));
        }
        Ok(names.into_values().collect())
    }

    /// The probability of each class for each text, `[texts][labels]`. A text is given as the tokens that the model's tokenizer
    /// makes of it, special tokens included.
    ///
    /// # Errors
    /// As [`Model::labels`] and [`Model::encode`], and [`Error::Invalid`] when there are more or fewer names than classes.
    pub fn classify(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        let labels = self.labels()?.len();
        let mut rows = self.encode(texts)?;
        for row in &mut rows {
            if row.len() != labels {
                let reason = format!("{labels} names for {} classes", row.len());
                return Err(Error::invalid(self.path(), "labels", reason));
            }
            furlong_core::softmax::softmax(self.inner.machine.isa, row);
        }
        Ok(rows)
    }
}

fn named(path: &Path) -> Result<Option<BTreeMap<usize, String>>, Error> {
    let Ok(file) = std::fs::File::open(path) else {
        return Ok(None);
    };
    let mut text = String::new();
    file.take(MAX_CONFIG_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| Error::io(path, "read", source))?;
    let config: Config = serde_json::from_str(&text)
        .map_err(|error| Error::invalid(path, "JSON", error.to_string()))?;
    Ok(config.id2label)
}
