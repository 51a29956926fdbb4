//! A model that answers examples, one after another.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use furlong_runtime::text::{
    ChatTemplate, FinishReason, GenerateOptions, Generation, Generator, Likelihood, Message,
    Tokenizer,
};
use furlong_runtime::{Adapter, LoadOptions, Model, ModelKind, Session};

use super::answers::{Answer, Ended};
use crate::data::{Content, Example, Turn};
use crate::error::{Error, Result};

/// How a model is to answer. Tokens are always the likeliest ones, so that an evaluation repeats.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// An adapter to answer with: a PEFT folder, or the name of one in the model's `adapters/`.
    pub adapter: Option<PathBuf>,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// Threads that run the model; all cores if absent.
    pub threads: Option<NonZeroUsize>,
    /// Tokens a session may hold; what the model was made for if absent.
    pub context: Option<usize>,
    /// Give a prompt to the model's chat template as the user's message, instead of as it stands.
    pub chat: bool,
    /// Compute the loss of the references too, which reads every prompt a second time.
    pub loss: bool,
}

/// A loaded model, ready to answer.
#[derive(Debug)]
pub struct Runner {
    model: Model,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    adapter: Option<Adapter>,
    /// The classes of a model that tells what a text is.
    labels: Option<Vec<String>>,
    options: Options,
}

/// What goes into the model for one example.
struct Prompt {
    tokens: Vec<u32>,
    /// The answer goes on in the prompt's own text.
    continues: bool,
}

impl Runner {
    /// Loads the model in a folder that `fine-tune export` wrote.
    ///
    /// # Errors
    /// When there is no model that generates text.
    pub fn open(folder: &Path, options: Options) -> Result<Runner> {
        let load = LoadOptions {
            threads: options.threads,
            context: options.context,
            ..LoadOptions::default()
        };
        let model = Model::load(folder, &load)?;
        let labels = match model.is_classifier() {
            true => Some(model.labels()?),
            false => None,
        };
        if model.kind() != ModelKind::Decoder && labels.is_none() {
            return Err(Error::Data {
                path: folder.to_owned(),
                reason: "the model makes embeddings, which are no answers; evaluate takes a model that generates text or \
                         tells classes"
                    .to_owned(),
            });
        }
        let adapter = match &options.adapter {
            Some(place) => Some(model.load_adapter(&model.find_adapter(place)?)?),
            None => None,
        };
        let tokenizer = Tokenizer::load(model.folder())?;
        let template = ChatTemplate::load(model.folder())?;
        Ok(Runner {
            model,
            tokenizer,
            template,
            adapter,
            labels,
            options,
        })
    }

    /// The adapter that it answers with.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Answers the examples in order, and hands each answer to `each`, which may break off; so may `cancel`, also within an
    /// answer, which is then dropped.
    ///
    /// # Errors
    /// When the model fails, an example needs a chat template that isn't there, or `each` fails.
    pub fn answer_all(
        &self,
        examples: &[Example],
        cancel: &AtomicBool,
        mut each: impl FnMut(&Example, Answer) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if let Some(labels) = &self.labels {
            for example in examples {
                if cancel.load(Ordering::SeqCst)
                    || each(example, self.class(example, labels)?)?.is_break()
                {
                    break;
                }
            }
            return Ok(());
        }
        let mut generator = Generator::new(self.model.session()?, &self.tokenizer);
        let mut scorer = self.model.session()?;
        generator.set_adapter(self.adapter.as_ref())?;
        scorer.set_adapter(self.adapter.as_ref())?;
        for example in examples {
            let Some(answer) = self.answer(example, &mut generator, &mut scorer, cancel)? else {
                break;
            };
            if each(example, answer)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The answer to one example; `None` when it was cancelled.
    fn answer(
        &self,
        example: &Example,
        generator: &mut Generator<'_, Session>,
        scorer: &mut Session,
        cancel: &AtomicBool,
    ) -> Result<Option<Answer>> {
        let start = Instant::now();
        let mut answer = Answer {
            id: example.id.clone(),
            answer: String::new(),
            reference: example.content.output().map(str::to_owned),
            ended: Ended::Scored,
            prompt_tokens: 0,
            tokens: 0,
            seconds: 0.0,
            loss: None,
            loss_tokens: None,
        };
        if let Some(reference) = example.content.output() {
            let prompt = self.prompt(example)?;
            answer.prompt_tokens = prompt.tokens.len();
            if prompt.tokens.len() >= self.model.context_length() {
                answer.ended = Ended::PromptTooLong;
                return Ok(Some(answer));
            }
            let Some(generation) = self.generate(&prompt, generator, cancel)? else {
                return Ok(None);
            };
            answer.tokens = generation.tokens.len();
            answer.ended = match generation.finish_reason {
                FinishReason::Stop => Ended::Stop,
                FinishReason::Context => Ended::Context,
                FinishReason::Length | FinishReason::Cancelled => Ended::Length,
            };
            answer.answer = generation.text;
            if self.options.loss {
                let loss = self.reference_loss(&prompt, reference, scorer)?;
                set_loss(&mut answer, loss);
            }
        } else {
            let tokens = self.tokenizer.encode(&example.content.input(), true)?;
            answer.prompt_tokens = tokens.len();
            let mut loss = Likelihood::default();
            for window in tokens.chunks(self.model.context_length()) {
                if window.len() > 1 {
                    loss.merge(Likelihood::of(scorer, window, 1)?);
                }
            }
            set_loss(&mut answer, loss);
        }
        answer.seconds = start.elapsed().as_secs_f64();
        Ok(Some(answer))
    }

    /// What a classifier takes an example for: the likeliest of its labels, and the loss of the right one.
    fn class(&self, example: &Example, labels: &[String]) -> Result<Answer> {
        let start = Instant::now();
        let tokens = self.tokenizer.encode(&example.content.input(), true)?;
        let mut answer = Answer {
            id: example.id.clone(),
            answer: String::new(),
            reference: example.content.output().map(str::to_owned),
            ended: Ended::PromptTooLong,
            prompt_tokens: tokens.len(),
            tokens: 0,
            seconds: 0.0,
            loss: None,
            loss_tokens: None,
        };
        if tokens.len() <= self.model.context_length() {
            let classes = self.model.classify(&[tokens])?;
            let found = classes.first().map(Vec::as_slice).unwrap_or_default();
            let best = labels
                .iter()
                .zip(found)
                .max_by(|(_, a), (_, b)| a.total_cmp(b));
            answer.answer = best.map_or(String::new(), |(label, _)| label.clone());
            answer.ended = Ended::Stop;
            let right = labels
                .iter()
                .position(|label| Some(label.as_str()) == answer.reference.as_deref());
            let probability = right.and_then(|index| found.get(index));
            if let Some(&probability) = probability.filter(|_| self.options.loss) {
                // One that is too small for f32 costs much, not nothing.
                let probability = probability.max(f32::MIN_POSITIVE);
                answer.loss = Some((-f64::from(probability).ln()).max(0.0));
                answer.loss_tokens = Some(1);
            }
        }
        answer.seconds = start.elapsed().as_secs_f64();
        Ok(answer)
    }

    fn generate(
        &self,
        prompt: &Prompt,
        generator: &mut Generator<'_, Session>,
        cancel: &AtomicBool,
    ) -> Result<Option<Generation>> {
        let options = GenerateOptions {
            max_tokens: self.options.max_tokens,
            stop: self.options.stop.clone(),
            continues: prompt.continues,
            ..GenerateOptions::default()
        };
        let generation = generator.generate(&prompt.tokens, &options, cancel, |_| {
            ControlFlow::Continue(())
        })?;
        let cancelled = generation.finish_reason == FinishReason::Cancelled;
        Ok((!cancelled).then_some(generation))
    }

    /// The loss of the reference as the prompt's answer. Nothing is scored where the two don't fit into the context.
    fn reference_loss(
        &self,
        prompt: &Prompt,
        reference: &str,
        scorer: &mut Session,
    ) -> Result<Likelihood> {
        let from = prompt.tokens.len();
        let mut tokens = prompt.tokens.clone();
        tokens.extend(self.tokenizer.encode(reference, false)?);
        let fits = tokens.len() <= self.model.context_length();
        if !fits || from == 0 || tokens.len() == from {
            return Ok(Likelihood::default());
        }
        Ok(Likelihood::of(scorer, &tokens, from)?)
    }

    fn prompt(&self, example: &Example) -> Result<Prompt> {
        match &example.content {
            Content::Messages(turns) => {
                let asked = turns.split_last().map_or(&[][..], |(_, before)| before);
                self.conversation(asked)
            }
            content if self.options.chat => self.conversation(&[Turn {
                role: "user".to_owned(),
                content: content.input(),
            }]),
            content => Ok(Prompt {
                tokens: self.tokenizer.encode(&content.input(), true)?,
                continues: true,
            }),
        }
    }

    fn conversation(&self, turns: &[Turn]) -> Result<Prompt> {
        let Some(template) = &self.template else {
            return Err(Error::Data {
                path: self.model.folder().to_owned(),
                reason: "the model has no chat template, which conversations need; use data of \"prompt\" and \
                         \"completion\""
                    .to_owned(),
            });
        };
        let messages: Vec<Message> = turns
            .iter()
            .map(|turn| Message::new(&turn.role, &turn.content))
            .collect();
        // The template writes the special tokens itself.
        let text = template.render(&messages, true, SystemTime::now())?;
        Ok(Prompt {
            tokens: self.tokenizer.encode(&text, false)?,
            continues: false,
        })
    }
}

fn set_loss(answer: &mut Answer, loss: Likelihood) {
    if loss.tokens() > 0 && loss.loss().is_finite() {
        // To a millionth of a nat: so short a number is read back as it was written.
        answer.loss = Some((loss.loss() * 1e6).round() / 1e6);
        answer.loss_tokens = Some(loss.tokens());
    }
}
