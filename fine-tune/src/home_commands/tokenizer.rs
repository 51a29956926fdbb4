//! The tokenizer of the built-in model: byte-level BPE, so simple that a microcontroller can do it.
//!
//! A text is put in lower case and its bytes are merged; nothing cuts it into words first. That is possible because the
//! merges are learned from words that have been cut already: none reaches over a space, a digit or the end of a value, so
//! merging a whole text gives the same tokens as merging it word by word. Each digit is a token, so that numbers are copied
//! digit by digit; names of slots with their punctuation are one token each, so that an answer is short.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, TokenizerBuilder, Trainer};

use super::Command;

/// Ends an answer.
pub const END: &str = "<|end|>";
/// Ends a command: what follows is the answer.
pub const ANSWER: &str = "<|answer|>";

/// Words that are seen less often are spelled out.
const MIN_FREQUENCY: u64 = 4;

/// Learns a tokenizer of `vocab_size` tokens, two markers and all bytes among them: the text of its `tokenizer.json`.
///
/// # Errors
/// What the `tokenizers` crate says; a vocabulary that hasn't room for the bytes.
pub fn train(commands: &[Command], vocab_size: usize) -> Result<String, tokenizers::Error> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(MIN_FREQUENCY)
        .show_progress(false)
        .special_tokens(vec![
            AddedToken::from(END, true),
            AddedToken::from(ANSWER, true),
        ])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let words = commands.iter().flat_map(|command| {
        let mut words = prompt_words(&command.prompt);
        words.extend(completion_words(&command.completion));
        words
    });
    trainer.feed(words, |word| Ok(vec![in_byte_letters(word)]))?;
    let mut model = BPE::default();
    let markers = trainer.train(&mut model)?;
    let template = TemplateProcessing::builder()
        .try_single(format!("$A {ANSWER}"))?
        .special_tokens(vec![(ANSWER, 1)])
        .build()?;
    let bytes = ByteLevel::new(false, true, false);
    let mut tokenizer =
        TokenizerBuilder::<BPE, Lowercase, ByteLevel, TemplateProcessing, ByteLevel>::new()
            .with_model(model)
            .with_normalizer(Some(Lowercase))
            .with_pre_tokenizer(Some(bytes))
            .with_post_processor(Some(template))
            .with_decoder(Some(bytes))
            .build()?;
    tokenizer.add_special_tokens(markers)?;
    tokenizer.to_string(false)
}

/// The text of a `tokenizer_config.json` that goes with it: a conversation is its last message.
pub fn config(context: usize) -> String {
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "eos_token": END,
        "chat_template": format!("{{{{ messages[-1].content }}}}{ANSWER}"),
    });
    format!("{config:#}\n")
}

/// Words with the space before them, single digits, single signs.
fn prompt_words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for letter in text.to_lowercase().chars() {
        let in_word = letter.is_alphabetic() || letter == '\'';
        match words.last_mut() {
            Some(word) if open && in_word => word.push(letter),
            _ => words.push(letter.to_string()),
        }
        open = in_word || letter == ' ';
    }
    words
}

/// What stands between values, and the values, in words.
fn completion_words(json: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = json;
    while let Some(colon) = rest.find("\":") {
        let text = rest[colon + 2..].starts_with('"');
        let (between, after) = rest.split_at(colon + 2 + usize::from(text));
        words.push(between.to_owned());
        let end = after.find(if text { &['"'][..] } else { &[',', '}'] });
        let (value, after) = after.split_at(end.unwrap_or(after.len()));
        // An intent is what it is about and, with the dot, what happens to it; a dot alone ends sentences in prompts.
        match value.split_once('.') {
            Some((about, what)) if text => words.extend([about.to_owned(), format!(".{what}")]),
            _ => words.extend(prompt_words(value)),
        }
        rest = after;
    }
    words.push(rest.to_owned());
    words
}

/// Bytes as the letters that byte-level BPE has for them.
fn in_byte_letters(word: &str) -> String {
    // GPT-2's table: printable bytes stand for themselves, the others for letters from U+0100 on, in order.
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    word.bytes()
        .map(|byte| {
            if printable(byte) {
                char::from(byte)
            } else {
                let before = (0..byte).filter(|&other| !printable(other)).count();
                char::from_u32(0x100 + before as u32).unwrap_or('?')
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home_commands::{Commands, Split};
    use std::path::Path;

    #[test]
    fn whole_texts_merge_as_their_words_do() {
        let commands: Vec<Command> = Commands::new(Split::Train, 1).take(3000).collect();
        let json = train(&commands, 1024).unwrap();
        assert_eq!(json, train(&commands, 1024).unwrap());
        let tokenizer =
            furlong_runtime::text::Tokenizer::from_bytes(Path::new("t"), json.as_bytes()).unwrap();
        let mut tokens = 0;
        for Command { prompt, completion } in Commands::new(Split::Test, 2).take(500) {
            let whole = tokenizer.encode(&prompt, false).unwrap();
            let words = prompt_words(&prompt);
            let words = words
                .iter()
                .map(|word| tokenizer.encode(word, false).unwrap());
            assert_eq!(whole, words.flatten().collect::<Vec<_>>(), "{prompt}");
            assert_eq!(
                tokenizer.decode(&whole, true).unwrap(),
                prompt.to_lowercase()
            );
            let answer = tokenizer.encode(&completion, false).unwrap();
            assert_eq!(tokenizer.decode(&answer, true).unwrap(), completion);
            tokens += answer.len();
            let asked = tokenizer.encode(&prompt, true).unwrap();
            assert_eq!(asked.last().copied(), tokenizer.token_id(ANSWER));
        }
        assert!(tokens < 500 * 10, "{tokens} tokens in 500 answers");
    }
}
