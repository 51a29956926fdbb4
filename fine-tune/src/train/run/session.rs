//! A run from beginning to end.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use burn::tensor::Device;

use super::events::EventFile;
use super::memory::resident_bytes;
use super::metrics::MetricsFile;
use super::plan::Plan;
use super::plot;
use super::replicas::Replicas;
use super::run_files::RunFiles;
use super::settings::{Method, Settings};
use super::settings_file;
use super::source::Source;
use super::state::{Origin, State};
use super::store::{Saved, Store};
use super::summary::{Summary, losses};
use super::trainer::{Ended, Progress, Records, Trainer, set_parameters};
use crate::architecture::Architecture;
use crate::card::{TrainingRecord, replace};
use crate::data::{BadLine, Content, DataFile};
use crate::error::{Error, Result};
use crate::train::data::{Lesson, SampleSet, SampleWriter, WriterOptions};
use crate::train::optimise::Optimiser;

/// A run that is ready to go.
#[derive(Debug)]
pub struct Run {
    files: RunFiles,
    settings: Settings,
    source: Source,
    trainer: Trainer,
    total: u64,
    samples: usize,
    tokens: usize,
    bad: Vec<(PathBuf, Vec<BadLine>, usize)>,
    /// Given back when the run is dropped, or killed.
    _lock: File,
}

impl Run {
    /// Opens model and data for a new run, or for one that was broken off. `devices` are one or more, which compute together.
    ///
    /// # Errors
    /// When a file can't be read, settings contradict each other, or a run that is to be resumed began with something else.
    pub fn open(
        files: RunFiles,
        mut settings: Settings,
        began: Option<&Settings>,
        devices: &[Device],
    ) -> Result<Run> {
        if let Some((name, then, now)) =
            began.and_then(|began| settings_file::difference(began, &settings))
        {
            return Err(Error::training(
                format!("setting {name}"),
                format!(
                    "the run began with {then}, and this is {now}; leave it out, or begin another run in another folder"
                ),
            ));
        }
        let Some(data_path) = &settings.data.data else {
            return Err(Error::training(
                "the data",
                "give --data FILE: JSON lines to learn from",
            ));
        };
        // Before anything in the folder is looked at, as another program may be at it.
        let lock = began.map(|_| files.lock()).transpose()?;
        let mut source = Source::open(&settings)?;
        source.settle(&mut settings.method)?;
        let data_file = DataFile::read(data_path)?;
        let labels = labels(&source, &data_file)?;
        if let Some(labels) = &labels {
            source.classify(labels)?;
        }
        let saved = match began {
            Some(_) => last_checkpoint(&files)?,
            None => None,
        };
        let began_at = match &saved {
            Some(saved) => saved.state.origin.began,
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        let encoder = matches!(source.architecture(), Architecture::Encoder(_));
        let vocabulary = source.architecture().vocab_size();
        let max_tokens =
            (settings.data.max_tokens as usize).min(source.architecture().context_length());
        let options = WriterOptions {
            max_tokens,
            too_long: settings.data.too_long,
            chat: settings.data.chat,
            learn_prompts: settings.data.learn_prompts,
            now: UNIX_EPOCH + Duration::from_secs(began_at),
        };
        let writer = SampleWriter::new(&source.tokenizer, source.template.as_ref(), options);
        let lesson = match &labels {
            Some(labels) => Lesson::Classes(labels),
            None if encoder => Lesson::Pairs,
            None => Lesson::Tokens,
        };
        let write = |file: &DataFile| {
            SampleSet::write(file, &writer, &source.tokenizer, vocabulary, lesson)
        };
        let data = write(&data_file)?;
        let mut bad = vec![(data_path.clone(), data.bad.clone(), data.bad_count)];
        let eval = match &settings.data.eval {
            Some(path) => {
                let eval = write(&DataFile::read(path)?)?;
                bad.push((path.clone(), eval.bad.clone(), eval.bad_count));
                Some(eval)
            }
            None => None,
        };
        let plan = Plan::new(&settings, &data.samples, max_tokens, eval.is_some())?;
        let origin = Origin {
            base: source.name(),
            base_digest: source.digest(),
            data_digest: data.digest.clone(),
            eval_digest: eval.as_ref().map(|eval| eval.digest.clone()),
            began: began_at,
        };
        let mut copies = devices.iter().map(|device| source.model(&settings, device));
        let mut model = match copies.next() {
            Some(model) => model?,
            None => return Err(Error::training("the devices", "there is none")),
        };
        let others = copies.collect::<Result<Vec<_>>>()?;
        let resumed = saved.as_ref().map(|saved| saved.state.step);
        let (state, optimiser) = match saved {
            None => (State::new(origin), Optimiser::new(plan.rules)),
            Some(saved) => {
                refuse_other_origin(&files, &saved.state.origin, &origin)?;
                let path = files.checkpoints();
                set_parameters(&mut model, saved.parameters)
                    .map_err(|reason| Error::malformed(&path, "parameters", reason))?;
                let optimiser = Optimiser::restore(
                    plan.rules,
                    saved.state.step,
                    saved.optimiser,
                    model.parameters(),
                )
                .map_err(|fault| fault.in_file(&path))?;
                (saved.state, optimiser)
            }
        };
        if began.is_none() {
            files.create()?;
            replace(&files.settings(), settings_file::text(&settings).as_bytes())?;
        }
        let lock = match lock {
            Some(lock) => lock,
            None => files.lock()?,
        };
        let records = Records {
            store: Store::open(&files.checkpoints())?,
            metrics: MetricsFile::open(&files.metrics(), resumed)?,
            events: EventFile::create(&files.training(), state.step)?,
        };
        let (samples, tokens) = (data.samples.len(), data.tokens());
        let total = plan.total;
        let mut replicas = Replicas::new(model, others, plan.arrangement.rows, plan.pair_scale);
        replicas.share();
        let trainer = Trainer::new(plan, replicas, optimiser, state, data, eval, records)?;
        Ok(Run {
            files,
            settings,
            source,
            trainer,
            total,
            samples,
            tokens,
            bad,
            _lock: lock,
        })
    }

    /// For each data file the lines that can't be used, the first of them one by one, and how many they are.
    pub fn bad_lines(&self) -> impl Iterator<Item = (&Path, &[BadLine], usize)> {
        let bad = self.bad.iter();
        bad.map(|(path, lines, count)| (path.as_path(), lines.as_slice(), *count))
    }

    /// Whether the model has a token that ends a text. Without one a decoder never learns to stop.
    pub fn has_end(&self) -> bool {
        matches!(self.source.architecture(), Architecture::Encoder(_))
            || !self.source.tokenizer.eos_ids().is_empty()
    }

    /// Steps that are done, and steps of the whole run.
    pub fn steps(&self) -> (u64, u64) {
        (self.trainer.state().step, self.total)
    }

    /// Numbers that are trained, and numbers of the whole model.
    pub fn parameters(&self) -> (usize, usize) {
        let parameters = self.trainer.model().parameters();
        let all = parameters
            .iter()
            .map(|(_, one)| one.shape().iter().product::<usize>());
        (parameters.trainable_count(), all.sum())
    }

    /// Trains, and writes what was learnt: the best of the evaluations, and after an interruption what there is.
    ///
    /// # Errors
    /// When a loss is not a number, or a file can't be written.
    pub fn train(&mut self, cancel: &AtomicBool, each: impl FnMut(&Progress)) -> Result<Summary> {
        let ended = self.trainer.run(cancel, each)?;
        let lines = self.trainer.lines();
        let (first_loss, last_loss, eval_loss_before) = losses(lines);
        replace(&self.files.plot(), plot::draw(lines).as_bytes())?;
        let state = self.trainer.state().clone();
        if ended != Ended::Interrupted {
            self.trainer.restore_best()?;
        }
        let (model, out) = (self.trainer.model(), self.files.out());
        match self.settings.method() {
            Method::Full => model.write_checkpoint(out, &self.source.sidecars)?,
            // The head isn't part of the base, so the model is written whole.
            Method::Lora if model.is_classifier() => {
                model.write_checkpoint(out, &self.source.sidecars)?;
            }
            Method::Lora => model.write_adapter(out, &self.source.name())?,
        }
        let origin = &state.origin;
        let summary = Summary {
            out: self.files.out().to_owned(),
            ended,
            total_steps: self.total,
            bad_lines: self.bad.iter().map(|(_, _, count)| count).sum(),
            first_loss,
            last_loss,
            best_step: state.best.map(|best| best.step),
            seconds: state.seconds,
            peak_memory_bytes: resident_bytes().map(|(_, peak)| peak),
            record: TrainingRecord {
                method: self.method().to_owned(),
                data: self.data_name(),
                data_digest: origin.data_digest.clone(),
                samples: self.samples,
                tokens: self.tokens,
                steps: state.step,
                trained_parameters: self.trainer.model().parameters().trainable_count(),
                eval_digest: origin.eval_digest.clone(),
                eval_loss_before,
                eval_loss: state.best.map(|best| best.loss),
                settings: settings_file::without_files(&self.settings),
            },
        };
        let text = serde_json::to_string_pretty(&summary).unwrap_or_default();
        replace(&self.files.summary(), format!("{text}\n").as_bytes())?;
        Ok(summary)
    }
}

impl Run {
    fn method(&self) -> &'static str {
        match self.settings.method() {
            _ if self.settings.from_scratch() => "scratch",
            Method::Full => "full",
            Method::Lora => "lora",
        }
    }

    /// The data file's name, without the folders of this machine.
    fn data_name(&self) -> String {
        let name = self.settings.data.data.as_deref().and_then(Path::file_name);
        name.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The classes that an encoder is to tell apart: its own, or those of the data; `None` when it learns something else.
fn labels(source: &Source, data: &DataFile) -> Result<Option<Vec<String>>> {
    let Architecture::Encoder(config) = source.architecture() else {
        return Ok(None);
    };
    if !config.labels.is_empty() {
        return Ok(Some(config.labels.clone()));
    }
    let labels = data.examples.iter().filter_map(|one| match &one.content {
        Content::Labelled { label, .. } => Some(label.clone()),
        _ => None,
    });
    let labels: Vec<String> = labels.collect::<BTreeSet<_>>().into_iter().collect();
    match labels.len() {
        0 => Ok(None),
        1 => Err(Error::Data {
            path: data.path.clone(),
            reason: "all texts have one label, and there is nothing to tell apart; give texts with others, too".to_owned(),
        }),
        _ => Ok(Some(labels)),
    }
}

/// The newest checkpoint of a run; `None` when it was killed before the first one.
fn last_checkpoint(files: &RunFiles) -> Result<Option<Saved>> {
    let store = Store::open(&files.checkpoints())?;
    match store.steps()?.last() {
        Some(&step) => store.read(step).map(Some),
        None => Ok(None),
    }
}

fn refuse_other_origin(files: &RunFiles, then: &Origin, now: &Origin) -> Result<()> {
    match then.difference(now) {
        None => Ok(()),
        Some((what, then, now)) => Err(Error::training(
            format!("{}: the {what}", files.checkpoints().display()),
            format!(
                "the run began with one of digest {then}, and this one's is {now}; resume with what it began with, \
                 or begin another run in another folder"
            ),
        )),
    }
}
