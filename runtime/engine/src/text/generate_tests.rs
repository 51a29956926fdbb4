//! The generation loop, with a model that says what it is told to.

use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::Error;

/// Says `script` one token after another once `prompt` tokens are in, and then the end-of-text token.
struct Parrot {
    script: Vec<u32>,
    prompt: usize,
    len: usize,
    context: usize,
    /// How many tokens it was given in all.
    read: usize,
    logits: Vec<f32>,
}

const END: u32 = 0;

impl TokenModel for Parrot {
    fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        self.len += tokens.len();
        self.read += tokens.len();
        let next = self
            .len
            .checked_sub(self.prompt)
            .and_then(|at| self.script.get(at));
        self.logits = vec![0.0; 400];
        self.logits[*next.unwrap_or(&END) as usize] = 1.0;
        Ok(&self.logits)
    }

    fn extend_each(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), Error> {
        rows.clear();
        for token in tokens {
            rows.extend_from_slice(self.extend(&[*token])?);
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
    }

    fn context(&self) -> usize {
        self.context
    }
}

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("goldens/tokenizer_byte_level.json")).unwrap();
    let folder = std::env::temp_dir().join(format!("furlong-generate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("tokenizer.json"),
        golden["tokenizer"].to_string(),
    )
    .unwrap();
    std::fs::write(
        folder.join("generation_config.json"),
        r#"{"eos_token_id": [0, 2]}"#,
    )
    .unwrap();
    let tokenizer = Tokenizer::load(&folder).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(tokenizer.eos_ids(), [0, 2]);
    tokenizer
});

fn tokenizer() -> &'static Tokenizer {
    &TOKENIZER
}

fn parrot(tokenizer: &Tokenizer, prompt: &[u32], says: &str) -> Parrot {
    Parrot {
        script: tokenizer.encode(says, false).unwrap(),
        prompt: prompt.len(),
        len: 0,
        context: 100,
        read: 0,
        logits: Vec::new(),
    }
}

fn generate(says: &str, context: usize, options: &GenerateOptions) -> (Generation, String) {
    let tokenizer = tokenizer();
    let prompt = tokenizer.encode("hello", false).unwrap();
    let model = Parrot {
        context,
        ..parrot(tokenizer, &prompt, says)
    };
    let mut shown = String::new();
    let mut generator = Generator::new(model, tokenizer);
    let generation = generator
        .generate(&prompt, options, &AtomicBool::new(false), |piece| {
            shown.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(shown, generation.text);
    assert_eq!(generation.prompt_tokens, prompt.len());
    (generation, shown)
}

#[test]
fn a_text_ends_for_its_reason() {
    let says = "a crab 🦀 and <more>";
    let tokens = tokenizer().encode(says, false).unwrap();
    let with = |max_tokens, stop: &[&str]| GenerateOptions {
        max_tokens,
        stop: stop.iter().map(|s| (*s).to_owned()).collect(),
        ..GenerateOptions::default()
    };

    let (all, _) = generate(says, 100, &with(90, &[]));
    assert_eq!(
        (all.text.as_str(), all.finish_reason),
        (says, FinishReason::Stop)
    );
    assert_eq!(all.tokens, tokens);

    let (short, _) = generate(says, 100, &with(3, &[]));
    assert_eq!(
        (short.tokens.len(), short.finish_reason),
        (3, FinishReason::Length)
    );

    // The stop string lies across tokens; what could have become one but didn't is shown.
    let (stopped, _) = generate(says, 100, &with(90, &["🦀 anx", "🦀 and"]));
    assert_eq!(
        (stopped.text.as_str(), stopped.finish_reason),
        ("a crab ", FinishReason::Stop)
    );
    let (held, _) = generate(says, 100, &with(90, &["<more>>"]));
    assert_eq!(held.text, says);

    let prompt = tokenizer().encode("hello", false).unwrap().len();
    let (full, _) = generate(says, prompt + 2, &with(90, &[]));
    assert_eq!(
        (full.tokens.len(), full.finish_reason),
        (3, FinishReason::Context)
    );

    let ignoring = GenerateOptions {
        ignore_eos: true,
        ..with(tokens.len() + 5, &[])
    };
    let (on, _) = generate(says, 100, &ignoring);
    assert_eq!(
        (on.text.as_str(), on.finish_reason),
        (says, FinishReason::Length)
    );
}

#[test]
fn cancelling_keeps_what_was_said() {
    let tokenizer = tokenizer();
    let prompt = tokenizer.encode("hello", false).unwrap();
    let cancel = AtomicBool::new(false);
    let mut generator = Generator::new(parrot(tokenizer, &prompt, "one two three"), tokenizer);
    let mut pieces = 0;
    let generation = generator
        .generate(&prompt, &GenerateOptions::default(), &cancel, |_| {
            pieces += 1;
            cancel.store(pieces == 2, Ordering::Relaxed);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(
        (generation.tokens.len(), generation.finish_reason),
        (2, FinishReason::Cancelled)
    );
    assert!("one two three".starts_with(&generation.text));
}

#[test]
fn a_conversation_costs_only_its_new_part() {
    let tokenizer = tokenizer();
    let first = tokenizer.encode("hello", false).unwrap();
    let mut generator = Generator::new(parrot(tokenizer, &first, "yes"), tokenizer);
    let cancel = AtomicBool::new(false);
    let mut say = |prompt: &[u32]| {
        let options = GenerateOptions::default();
        generator
            .generate(prompt, &options, &cancel, |_| ControlFlow::Continue(()))
            .unwrap()
    };
    let answer = say(&first);
    let second = [first.as_slice(), &answer.tokens, &[5, 6, 7]].concat();
    assert_eq!(
        say(&second).reused_tokens,
        first.len() + answer.tokens.len()
    );
    // The same prompt again: its last token goes in for its logits.
    assert_eq!(say(&second).reused_tokens, second.len() - 1);
    assert_eq!(say(&[9, 9]).reused_tokens, 0);
    assert!(matches!(
        generator.generate(&[], &GenerateOptions::default(), &cancel, |_| {
            ControlFlow::Continue(())
        }),
        Err(Error::Usage(_))
    ));
    let long = vec![1; 101];
    assert!(matches!(
        generator.generate(&long, &GenerateOptions::default(), &cancel, |_| {
            ControlFlow::Continue(())
        }),
        Err(Error::ContextFull { .. })
    ));
}

/// A model whose next token depends on the last two alone, so that it repeats itself, and on nothing that it was told
/// to forget.
struct Rhymes {
    seen: Vec<u32>,
    passes: usize,
    logits: Vec<f32>,
}

impl Rhymes {
    fn next(&mut self) {
        let last = |back: usize| self.seen.iter().rev().nth(back).copied().unwrap_or(0);
        let (a, b) = (u64::from(last(0)), u64::from(last(1)));
        self.logits = (0..12)
            .map(|token: u64| ((a * 31 + b * 17 + token * 7) * (token + 3) % 23) as f32 / 4.0)
            .collect();
    }
}

impl TokenModel for Rhymes {
    fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        self.passes += 1;
        self.seen.extend_from_slice(tokens);
        assert!(self.seen.len() <= self.context());
        self.next();
        Ok(&self.logits)
    }

    fn extend_each(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), Error> {
        let passes = self.passes + 1;
        rows.clear();
        for token in tokens {
            rows.extend_from_slice(self.extend(&[*token])?);
        }
        self.passes = passes;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.seen.truncate(len);
    }

    fn context(&self) -> usize {
        90
    }
}

#[test]
fn guesses_change_the_time_and_not_the_answer() {
    let (mut passes, mut accepted) = ([0; 2], 0);
    for seed in 0..60u64 {
        let prompt: Vec<u32> = (0..3 + seed % 5)
            .map(|i| ((i * seed) % 11) as u32)
            .collect();
        let sampling = SamplingParams {
            temperature: [0.0, 0.0, 0.2, 0.7][(seed % 4) as usize],
            repetition_penalty: [1.0, 1.1][(seed / 4 % 2) as usize],
            top_k: (seed / 8 % 3) as usize * 4,
            seed,
            ..SamplingParams::GREEDY
        };
        let run = |lookup| {
            let options = GenerateOptions {
                max_tokens: 20 + seed as usize * 2,
                sampling,
                lookup,
                ..GenerateOptions::default()
            };
            let model = Rhymes {
                seen: Vec::new(),
                passes: 0,
                logits: Vec::new(),
            };
            let mut generator = Generator::new(model, tokenizer());
            let cancel = AtomicBool::new(false);
            let mut all = Vec::new();
            let mut prompt = prompt.clone();
            // A second turn goes on from what the first one left.
            for _ in 0..2 {
                let generation = generator
                    .generate(&prompt, &options, &cancel, |_| ControlFlow::Continue(()))
                    .unwrap();
                assert_eq!(generator.model.seen, generator.held);
                prompt = [&generator.held[..generator.held.len().min(40)], &[7]].concat();
                all.push(generation);
            }
            (all, generator.model.passes)
        };
        let (plain, slow) = run(0);
        for lookup in [1, 3, 7, 30] {
            let (guessed, fast) = run(lookup);
            for (plain, guessed) in plain.iter().zip(&guessed) {
                assert_eq!(
                    (&plain.tokens, &plain.text),
                    (&guessed.tokens, &guessed.text)
                );
                assert_eq!(plain.finish_reason, guessed.finish_reason);
                assert!(guessed.lookup.accepted <= guessed.lookup.proposed);
                accepted += guessed.lookup.accepted;
            }
            passes = [passes[0] + slow, passes[1] + fast];
        }
    }
    assert!(
        accepted > 0 && passes[1] * 4 < passes[0] * 3,
        "{accepted} {passes:?}"
    );
}
