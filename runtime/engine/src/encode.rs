//! Sentence embeddings: what an encoder is for.
//!
//! Sentences of the same length go through the graph together, so none is ever padded: padding costs
//! time, and in a dynamically quantised encoder it changes the result.

use std::collections::BTreeMap;
use std::path::Path;

use tract_core::internal::*;

use crate::model::{Inner, Model, ModelKind};
use crate::{Error, plan};

/// Tokens that go through the graph at once, unless one sentence alone has more.
const BATCH_TOKENS: usize = 4096;
/// The largest configuration file that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The output that our own exports have.
pub(crate) const EMBEDDING: &str = "sentence_embedding";

/// How a graph without an embedding of its own is read: what the folder's sentence-transformers
/// files say, or the mean over the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pooling {
    /// Take the first token instead of the mean.
    pub first: bool,
    /// Scale to length 1.
    pub normalise: bool,
}

impl Model {
    /// The embedding of each sentence, given as the tokens that the model's tokenizer makes of it,
    /// special tokens included. All have the same length.
    ///
    /// A graph without a `sentence_embedding` output gives the mean of its last hidden states, or
    /// what `1_Pooling/config.json` and `modules.json` beside it ask for.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model that isn't an encoder or a sentence without tokens,
    /// [`Error::ContextFull`] and [`Error::Token`] for one that the model can't read,
    /// [`Error::Unsupported`] for a graph with other inputs than encoders have, [`Error::Run`] when
    /// the graph fails.
    pub fn encode(&self, sentences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        let inner = &*self.inner;
        if inner.kind != ModelKind::Encoder {
            let path = self.path().display();
            return Err(Error::Usage(format!(
                "{path} is a decoder, which gives no embeddings; use a session"
            )));
        }
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, sentence) in sentences.iter().enumerate() {
            self.check(sentence)?;
            by_length.entry(sentence.len()).or_default().push(index);
        }
        let pooling = Pooling::of(self.folder());
        let mut embeddings = vec![Vec::new(); sentences.len()];
        for (length, indices) in by_length {
            for batch in indices.chunks((BATCH_TOKENS / length).max(1)) {
                let tokens: Vec<&[u32]> = batch
                    .iter()
                    .filter_map(|&i| sentences.get(i).map(Vec::as_slice))
                    .collect();
                let found = inner.embed(&tokens, length, pooling)?;
                for (&index, embedding) in batch.iter().zip(found) {
                    if let Some(slot) = embeddings.get_mut(index) {
                        *slot = embedding;
                    }
                }
            }
        }
        Ok(embeddings)
    }

    fn check(&self, sentence: &[u32]) -> Result<(), Error> {
        let (limit, vocab_size) = (self.context_length(), self.vocab_size());
        if sentence.is_empty() {
            return Err(Error::Usage(
                "a sentence has no tokens; encode it with its special tokens".into(),
            ));
        }
        if sentence.len() > limit {
            return Err(Error::ContextFull {
                len: 0,
                asked: sentence.len(),
                limit,
            });
        }
        let unknown = |token: &&u32| {
            vocab_size > 0 && usize::try_from(**token).map_or(true, |t| t >= vocab_size)
        };
        match sentence.iter().find(unknown) {
            Some(&token) => Err(Error::Token { token, vocab_size }),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// The embeddings of sentences of `length` tokens each.
    fn embed(
        &self,
        batch: &[&[u32]],
        length: usize,
        pooling: Pooling,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let path = &self.source.path;
        let compiled = &self.compiled;
        let mut arrays = Vec::with_capacity(compiled.inputs.len());
        for name in &compiled.inputs {
            let numbers: Vec<i64> = match name.as_str() {
                "input_ids" => batch
                    .iter()
                    .flat_map(|s| s.iter().map(|&t| i64::from(t)))
                    .collect(),
                "attention_mask" => vec![1; batch.len() * length],
                "token_type_ids" => vec![0; batch.len() * length],
                "position_ids" => (0..batch.len() * length)
                    .map(|i| (i % length) as i64)
                    .collect(),
                _ => {
                    let reason = format!(
                        "an encoder with an input {name:?}; inputs are input_ids, attention_mask, token_type_ids, \
                         position_ids; run it with `infer`"
                    );
                    return Err(Error::unsupported(path, reason));
                }
            };
            arrays.push(numbers);
        }
        let shape = [batch.len(), length];
        let (index, name) = match compiled.outputs.iter().position(|name| name == EMBEDDING) {
            Some(index) => (index, EMBEDDING),
            None => match compiled.outputs.first() {
                Some(name) => (0, name.as_str()),
                None => return Err(Error::unsupported(path, "an encoder without outputs")),
            },
        };
        let run = || {
            plan::shielded(|| {
                let model = compiled.plan.model();
                let mut inputs = TVec::new();
                for (numbers, outlet) in arrays.iter().zip(model.input_outlets()?) {
                    let wanted = model.outlet_fact(*outlet)?.datum_type;
                    let tensor = Tensor::from_shape(&shape, numbers)?;
                    inputs.push(tensor.cast_to_dt(wanted)?.into_owned().into_tvalue());
                }
                let outputs = compiled.run(inputs)?;
                let output = outputs
                    .get(index)
                    .context("the graph has too few outputs")?;
                let floats = output.cast_to::<f32>()?;
                let view = floats.try_as_plain_ram()?;
                Ok((output.shape().to_vec(), view.as_slice::<f32>()?.to_vec()))
            })
        };
        let (dims, values) = self
            .machine
            .pool
            .enter(run)
            .map_err(|e| plan::run_error(path, &e))?;
        match *dims.as_slice() {
            [count, width] if count == batch.len() && width > 0 => {
                Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
            }
            [count, tokens, width] if count == batch.len() && tokens == length && width > 0 => {
                Ok(values
                    .chunks_exact(tokens * width)
                    .map(|states| pooling.apply(states, width))
                    .collect())
            }
            _ => {
                let reason = format!(
                    "its output {name:?} has the shape {dims:?} for {} sentences of {length} tokens; an embedding \
                     is [sentences, width] or [sentences, tokens, width]",
                    batch.len()
                );
                Err(Error::unsupported(path, reason))
            }
        }
    }
}

impl Pooling {
    /// What the sentence-transformers files in `folder` say, where there are any.
    pub(crate) fn of(folder: &Path) -> Pooling {
        let read = |name: &str| {
            let path = folder.join(name);
            let size = std::fs::metadata(&path).ok()?.len();
            let text = (size <= MAX_CONFIG_BYTES).then(|| std::fs::read_to_string(path).ok())??;
            serde_json::from_str::<serde_json::Value>(&text).ok()
        };
        let pooling = read("1_Pooling/config.json");
        let first = pooling.is_some_and(|p| p["pooling_mode_cls_token"] == true);
        let normalise = read("modules.json").is_some_and(|modules| {
            modules.as_array().is_some_and(|all| {
                all.iter()
                    .any(|m| m["type"].as_str().is_some_and(|t| t.ends_with("Normalize")))
            })
        });
        Pooling { first, normalise }
    }

    /// The embedding that hidden states `[tokens, width]` make.
    fn apply(self, states: &[f32], width: usize) -> Vec<f32> {
        let tokens = if self.first { 1 } else { states.len() / width };
        let mut embedding = vec![0.0f32; width];
        for state in states.chunks_exact(width).take(tokens) {
            for (sum, value) in embedding.iter_mut().zip(state) {
                *sum += value;
            }
        }
        let mut factor = 1.0 / tokens as f32;
        if self.normalise {
            let length = embedding.iter().map(|v| v * v).sum::<f32>().sqrt();
            factor = 1.0 / length.max(1e-12);
        }
        embedding.iter_mut().for_each(|value| *value *= factor);
        embedding
    }
}
