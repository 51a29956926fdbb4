//! One example as token ids, of which some are to be learnt.

use std::time::SystemTime;

use furlong_runtime::text::{ChatTemplate, Message, Tokenizer};

use crate::data::{Content, Example, Turn};

/// Token ids of a training example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each token whether the model is to learn to write it. Never the first one, which nothing comes before.
    pub learnt: Vec<bool>,
    /// What the text is, where that is to be learnt: the number of its class.
    pub class: Option<u32>,
}

/// What to do with an example of more tokens than fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// Leave it out.
    Drop,
    /// Leave out its end.
    Cut,
    /// A `{"text"}` is cut into several samples; any other example is left out.
    Split,
}

/// How examples become samples.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The most tokens of a sample, at least 2.
    pub max_tokens: usize,
    /// What to do with longer ones.
    pub too_long: TooLong,
    /// Give a prompt to the chat template as the user's message, instead of as it stands.
    pub chat: bool,
    /// Learn prompts and the turns of others, too.
    pub learn_prompts: bool,
    /// What chat templates take for today.
    pub now: SystemTime,
}

/// Writes examples as the samples that a decoder learns from.
///
/// A prompt is tokenised by itself and its answer after it, just as `fine-tune evaluate` and `furlong` do it, so that the model
/// is trained on the very tokens it will see.
#[derive(Debug)]
pub struct SampleWriter<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    end: Option<u32>,
    options: WriterOptions,
}

/// A stretch of text, and whether it is to be learnt.
struct Piece {
    text: String,
    learnt: bool,
}

impl<'a> SampleWriter<'a> {
    /// A writer for the model that `tokenizer` and `template` belong to.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        options: WriterOptions,
    ) -> SampleWriter<'a> {
        SampleWriter {
            tokenizer,
            template,
            end: end_of_text(tokenizer),
            options,
        }
    }

    /// The samples of an example: one, several when it was split.
    ///
    /// # Errors
    /// Why there is none.
    pub fn write(&self, example: &Example) -> Result<Vec<Sample>, String> {
        let sample = match &example.content {
            Content::Text(text) => self.text(text)?,
            Content::Messages(turns) => self.conversation(turns)?,
            content => {
                let Some(output) = content.output() else {
                    return Err("there is nothing to be learnt in it".to_owned());
                };
                if self.options.chat {
                    let turn = |role: &str, content: String| Turn {
                        role: role.to_owned(),
                        content,
                    };
                    let answer = turn("assistant", output.to_owned());
                    self.conversation(&[turn("user", content.input()), answer])?
                } else {
                    self.completion(&content.input(), output)?
                }
            }
        };
        let splittable = matches!(example.content, Content::Text(_));
        let samples = self.fit(sample, splittable)?;
        if !samples.iter().any(|sample| sample.learnt.contains(&true)) {
            return Err("there is nothing to be learnt in it".to_owned());
        }
        Ok(samples)
    }

    /// The two sentences of a pair, as an encoder reads them: nothing in them is to be written. One that is too long is left out,
    /// or loses what stands before its last token.
    ///
    /// # Errors
    /// Why there are none.
    pub fn write_pair(&self, example: &Example) -> Result<[Sample; 2], String> {
        let Content::Pair { anchor, positive } = &example.content else {
            return Err("an encoder learns from pairs: \"anchor\" and \"positive\"".to_owned());
        };
        Ok([self.sentence(anchor)?, self.sentence(positive)?])
    }

    /// A text with its class among `labels`, as an encoder reads it. One that is too long is left out, or loses what stands before
    /// its last token.
    ///
    /// # Errors
    /// Why there is none.
    pub fn write_class(&self, example: &Example, labels: &[String]) -> Result<Sample, String> {
        let Content::Labelled { text, label } = &example.content else {
            return Err("a classifier learns from \"text\" and \"label\"".to_owned());
        };
        let class = labels.iter().position(|known| known == label);
        let class = class.ok_or_else(|| {
            format!(
                "its label {label:?} is none of the model's: {}",
                labels.join(", ")
            )
        })?;
        let mut sample = self.sentence(text)?;
        sample.class = Some(class as u32);
        Ok(sample)
    }

    fn sentence(&self, text: &str) -> Result<Sample, String> {
        let mut tokens = self.encode(text, true)?;
        let (count, most) = (tokens.len(), self.options.max_tokens);
        if count == 0 {
            return Err("a sentence of it is empty".to_owned());
        }
        if count > most {
            if self.options.too_long == TooLong::Drop {
                return Err(too_many(count, most));
            }
            tokens.drain(most - 1..count - 1);
        }
        let mut sample = Sample::default();
        sample.extend(tokens, false);
        Ok(sample)
    }

    fn text(&self, text: &str) -> Result<Sample, String> {
        let mut sample = Sample::default();
        let tokens = self.encode(text, true)?;
        sample.extend(tokens, true);
        self.finish(&mut sample);
        Ok(sample)
    }

    fn completion(&self, prompt: &str, completion: &str) -> Result<Sample, String> {
        let mut sample = Sample::default();
        sample.extend(self.encode(prompt, true)?, self.options.learn_prompts);
        sample.extend(self.encode(completion, false)?, true);
        self.finish(&mut sample);
        Ok(sample)
    }

    fn conversation(&self, turns: &[Turn]) -> Result<Sample, String> {
        let mut sample = Sample::default();
        for piece in self.pieces(turns)? {
            let tokens = self.encode(&piece.text, false)?;
            if !piece.learnt {
                sample.extend(tokens, self.options.learn_prompts);
                continue;
            }
            // What a template writes after the token that ends an answer is nobody's to generate.
            let length = tokens.iter().position(|token| self.ends(*token));
            let answer = length.map_or(tokens.len(), |index| index + 1);
            let (answer, rest) = tokens.split_at(answer);
            sample.extend(answer.to_vec(), true);
            sample.extend(rest.to_vec(), self.options.learn_prompts);
        }
        Ok(sample)
    }

    /// A conversation cut where the assistant begins and ends to speak.
    fn pieces(&self, turns: &[Turn]) -> Result<Vec<Piece>, String> {
        let template = self.template.ok_or(
            "the model has no chat template, which conversations need; use \"prompt\" and \"completion\"",
        )?;
        let messages: Vec<Message> = turns
            .iter()
            .map(|turn| Message::new(&turn.role, &turn.content))
            .collect();
        let render = |messages: &[Message], open: bool| {
            template
                .render(messages, open, self.options.now)
                .map_err(|error| error.to_string())
        };
        let mut pieces = Vec::new();
        let mut written = String::new();
        let mut add = |text: String, learnt: bool| {
            let piece = text
                .strip_prefix(written.as_str())
                .ok_or(
                    "the chat template writes earlier turns differently once later ones follow; end the conversation \
                     with its first answer",
                )?
                .to_owned();
            written = text;
            pieces.push(Piece {
                text: piece,
                learnt,
            });
            Ok::<(), String>(())
        };
        for (index, turn) in turns.iter().enumerate() {
            if turn.role == "assistant" {
                add(render(&messages[..index], true)?, false)?;
                add(render(&messages[..=index], false)?, true)?;
            }
        }
        if pieces.is_empty() {
            return Err("the assistant says nothing in it".to_owned());
        }
        Ok(pieces)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        self.tokenizer
            .encode(text, special)
            .map_err(|error| error.to_string())
    }

    fn ends(&self, token: u32) -> bool {
        self.tokenizer.eos_ids().contains(&token)
    }

    /// Ends a sample with the token that ends a text.
    fn finish(&self, sample: &mut Sample) {
        let last = sample.tokens.last().copied();
        if let Some(end) = self
            .end
            .filter(|_| !last.is_some_and(|last| self.ends(last)))
        {
            sample.extend(vec![end], true);
        }
    }

    fn fit(&self, sample: Sample, splittable: bool) -> Result<Vec<Sample>, String> {
        let most = self.options.max_tokens;
        let count = sample.tokens.len();
        if count <= most {
            return Ok(vec![sample]);
        }
        match (self.options.too_long, splittable) {
            (TooLong::Cut, _) => Ok(vec![sample.part(0, most)]),
            (TooLong::Split, true) => {
                let starts = (0..count).step_by(most);
                let parts = starts.map(|start| sample.part(start, (start + most).min(count)));
                // A single token is followed by nothing.
                Ok(parts.filter(|part| part.tokens.len() > 1).collect())
            }
            _ => Err(too_many(count, most)),
        }
    }
}

fn too_many(count: usize, most: usize) -> String {
    format!("{count} tokens, more than the {most} of max-tokens; raise it, or cut with too-long")
}

impl Sample {
    fn extend(&mut self, tokens: Vec<u32>, learnt: bool) {
        let first = self.tokens.is_empty();
        self.learnt
            .extend((0..tokens.len()).map(|index| learnt && !(first && index == 0)));
        self.tokens.extend(tokens);
    }

    fn part(&self, start: usize, end: usize) -> Sample {
        let mut part = Sample {
            tokens: self.tokens[start..end].to_vec(),
            learnt: self.learnt[start..end].to_vec(),
            class: None,
        };
        if let Some(first) = part.learnt.first_mut() {
            *first = false;
        }
        part
    }
}

/// The token that ends a text; of several the first.
fn end_of_text(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.eos_ids().first().copied()
}
