//! LoRA adapters beside a loaded model: any number of them, and each session chooses its own.
//!
//! A PEFT folder is read (`peft`, `config`), its modules are found among the model's layers (`places`) and packed
//! for the layers' kernels. The base weights stay as they are, so that a session without an adapter
//! computes what it always did, to the bit.

mod config;
mod peft;
mod places;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use crate::model::{Inner, Model, ModelKind};
use crate::weights::{Change, ChangePart, LowRank};
use crate::{Error, Session};
pub use config::{PeftFault, PeftSettings};
use peft::{Module, PeftFolder};
use places::{Layer, Place, Places};

/// Folder of a model folder that holds adapters.
const FOLDER: &str = "adapters";

/// A LoRA adapter that was loaded for one model. Clones are cheap and share everything.
#[derive(Debug, Clone)]
pub struct Adapter {
    inner: Arc<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    name: String,
    base: Option<String>,
    /// The model that its matrices were checked against.
    model: Weak<Inner>,
    modules: usize,
    layers: Arc<LowRankModel>,
}

/// What an adapter adds to the layers of a model.
#[derive(Debug)]
pub(crate) struct LowRankModel {
    /// By slot of the op.
    ops: BTreeMap<usize, LowRank>,
    head: Option<LowRank>,
}

impl LowRankModel {
    /// What is added to the op at `slot`.
    pub(crate) fn op(&self, slot: usize) -> Option<&LowRank> {
        self.ops.get(&slot)
    }

    /// What is added to the output layer.
    pub(crate) fn head(&self) -> Option<&LowRank> {
        self.head.as_ref()
    }
}

impl Adapter {
    /// The adapter's name: that of its folder.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The base model that the adapter says it was trained on.
    pub fn base(&self) -> Option<&str> {
        self.inner.base.as_deref()
    }

    /// How many of the model's modules it changes.
    pub fn modules(&self) -> usize {
        self.inner.modules
    }

    /// Bytes that its matrices take in memory.
    pub fn bytes(&self) -> usize {
        let layers = &self.inner.layers;
        let all = layers.ops.values().chain(&layers.head);
        all.map(LowRank::bytes).sum()
    }

    /// Whether both are the same loaded adapter.
    pub(crate) fn is(&self, other: &Adapter) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether it was loaded for this very model.
    pub(crate) fn fits(&self, model: &Model) -> bool {
        std::ptr::eq(self.inner.model.as_ptr(), Arc::as_ptr(&model.inner))
    }

    /// What it adds to the model's layers.
    pub(crate) fn layers(&self) -> &Arc<LowRankModel> {
        &self.inner.layers
    }
}

impl Model {
    /// The folder of the adapter that a user calls `place`: that folder itself, or the one of this name in the model's own
    /// `adapters/`.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is neither.
    pub fn find_adapter(&self, place: &Path) -> Result<PathBuf, Error> {
        if place.is_dir() {
            return Ok(place.to_owned());
        }
        let own = self.folder().join(FOLDER);
        let kept = own.join(place);
        if place.components().count() == 1 && kept.is_dir() {
            return Ok(kept);
        }
        Err(Error::Usage(format!(
            "there is no adapter {}; give a PEFT folder, or the name of one in {}",
            place.display(),
            own.display()
        )))
    }

    /// Loads the PEFT folder `folder` (`adapter_config.json`, `adapter_model.safetensors`) beside this model, which
    /// stays as it is: sessions choose with [`Session::set_adapter`].
    ///
    /// LoRA and rsLoRA on linear layers, the output layer among them.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] for files that can't be read or don't fit this model, with the module and
    /// both shapes; [`Error::Unsupported`] for what is more than that, DoRA for example, which `fine-tune export
    /// --adapter` merges; [`Error::Usage`] for a model that isn't a decoder.
    pub fn load_adapter(&self, folder: &Path) -> Result<Adapter, Error> {
        if self.kind() != ModelKind::Decoder {
            return Err(Error::Usage(format!(
                "{} is an encoder, and adapters are kept beside decoders only; merge it: fine-tune export --adapter",
                self.path().display()
            )));
        }
        let files = PeftFolder::open(folder)?;
        let places = Places::of(&self.inner);
        let mut changes: BTreeMap<Layer, Vec<Change>> = BTreeMap::new();
        let mut modules = 0;
        for module in files.modules()? {
            for (layer, change) in placed(&files, &module, &places)? {
                changes.entry(layer).or_default().push(change);
            }
            modules += 1;
        }
        let mut layers = LowRankModel {
            ops: BTreeMap::new(),
            head: None,
        };
        let isa = self.inner.machine.isa;
        for (layer, changes) in changes {
            let low_rank = LowRank::new(changes, layer.cols, isa)
                .map_err(|error| files.refuse("matrices", error.to_string()))?;
            match layer.slot {
                Some(slot) => drop(layers.ops.insert(slot, low_rank)),
                None => layers.head = Some(low_rank),
            }
        }
        let inner = Loaded {
            name: files.name(),
            base: files.base().map(str::to_owned),
            model: Arc::downgrade(&self.inner),
            modules,
            layers: Arc::new(layers),
        };
        Ok(Adapter {
            inner: Arc::new(inner),
        })
    }
}

/// What a module of the adapter changes, by layer of the model.
fn placed(
    files: &PeftFolder,
    module: &Module<'_>,
    places: &Places,
) -> Result<Vec<(Layer, Change)>, Error> {
    let found = places.find(&module.name);
    let Some(first) = found.first() else {
        let reason = format!(
            "the model has no linear layer of that name; it has {}. Was the adapter trained on this model?",
            places.examples()
        );
        return Err(files.refuse(module.place(), reason));
    };
    let rows: usize = found.iter().map(|place| place.rows.len()).sum();
    let (a, b) = (&module.a, &module.b);
    let cols = first.layer.cols;
    let mut parts = vec![("A", a, [module.rank, cols]), ("B", b, [rows, module.rank])];
    parts.extend(module.base.iter().map(|base| ("base", base, [rows, cols])));
    for (part, matrix, wanted) in parts {
        let fits = match (part, matrix.shape()) {
            // GPT-2 stores its weights the other way round.
            ("base", &[input, out]) if [out, input] == wanted => true,
            (_, shape) => shape == wanted,
        };
        if !fits {
            let reason = format!(
                "its {part} is {:?}, and the model's layer and the config's rank want {wanted:?}; was the adapter \
                 trained on this model?",
                matrix.shape()
            );
            return Err(files.refuse(module.place(), reason));
        }
    }
    let a = files.numbers(module, "A", a)?;
    let b = files.numbers(module, "B", b)?;
    let mut changes: Vec<(Layer, Change)> = Vec::new();
    let mut start = 0;
    for Place {
        layer,
        matrix,
        rows,
    } in found
    {
        let range = start * module.rank..(start + rows.len()) * module.rank;
        start += rows.len();
        let part = ChangePart {
            matrix: *matrix,
            rows: rows.clone(),
            b: b.get(range).unwrap_or_default().to_vec(),
        };
        match changes.last_mut().filter(|(last, _)| last == layer) {
            Some((_, change)) => change.parts.push(part),
            None => {
                let change = Change {
                    a: a.clone(),
                    rank: module.rank,
                    scale: module.scale,
                    parts: vec![part],
                };
                changes.push((*layer, change));
            }
        }
    }
    Ok(changes)
}

impl Session {
    /// From now on answers with this adapter, or with the model alone: then its logits are those of a session that
    /// never had one, to the bit.
    ///
    /// # Errors
    /// [`Error::Usage`] when the session has read something, because its keys and values are those of the adapter
    /// that was there then ([`Session::reset`] forgets them), and when the adapter was loaded for another model.
    pub fn set_adapter(&mut self, adapter: Option<&Adapter>) -> Result<(), Error> {
        let same = match (self.adapter(), adapter) {
            (None, None) => true,
            (Some(now), Some(wanted)) => now.is(wanted),
            _ => false,
        };
        if same {
            return Ok(());
        }
        if let Some(wanted) = adapter.filter(|wanted| !wanted.fits(self.model())) {
            return Err(Error::Usage(format!(
                "the adapter {} was loaded for another model; load it for this one",
                wanted.name()
            )));
        }
        if !self.is_empty() {
            return Err(Error::Usage(format!(
                "the session holds {} tokens, read with another adapter; reset it, then change the adapter",
                self.len()
            )));
        }
        self.replace_adapter(adapter.cloned());
        Ok(())
    }
}
