//! A board's tokenizer makes the tokens that the `tokenizers` crate makes: byte pairs, whole and in pieces, and WordPiece.

use std::path::PathBuf;

use furlong_core::plan::{Tokenizer as BoardTokenizer, WORDS_PER_BYTE};
use furlong_runtime::text::{LoweredText, Tokenizer};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainerBuilder};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerBuilder};

const TOKENS: u32 = 900;
const SPECIAL: [&str; 4] = ["<|end|>", "<|answer|>", "<|a", "[UNK]"];
/// Text of many kinds to learn from.
const TEXT: &str = concat!(
    include_str!("board_tokenizer.rs"),
    "Ça n'était qu'un été à l'œuvre naïve. Привет, мир! 東京は日本の首都。 한국어 위키 שלום नमस्ते Ελληνικά\n",
    include_str!("../../../docs/plan-format.md"),
);

/// As Llama 3 cuts texts; with `{1}` as Qwen2 does, nearly.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn special() -> Vec<AddedToken> {
    SPECIAL.map(|token| AddedToken::from(token, true)).to_vec()
}

fn folder(name: &str) -> PathBuf {
    let name = format!("furlong-board-tokenizer-{}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Byte pairs, trained on this file.
fn byte_pairs(name: &str, lowers: bool, cutter: PreTokenizerWrapper) -> PathBuf {
    let byte_level = || ByteLevel::new(false, true, false);
    let mut tokenizer = TokenizerBuilder::default()
        .with_model(BPE::default())
        .with_normalizer(lowers.then_some(Lowercase))
        .with_pre_tokenizer(Some(cutter))
        .with_post_processor(Some(byte_level()))
        .with_decoder(Some(byte_level()))
        .build()
        .unwrap();
    // SmolLM2 has no tokens for bytes that its texts didn't have.
    let alphabet = match name {
        "smollm2" => Default::default(),
        _ => ByteLevel::alphabet().into_iter().collect(),
    };
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(TOKENS as usize)
        .initial_alphabet(alphabet)
        .special_tokens(special())
        .build();
    let lines = TEXT.lines().map(str::to_owned);
    tokenizer.train(&mut trainer, lines).unwrap();
    let folder = folder(name);
    tokenizer
        .save(folder.join("tokenizer.json"), false)
        .unwrap();
    folder
}

/// WordPiece as BERT has it, trained on this file.
fn word_piece(name: &str, normaliser: BertNormalizer) -> PathBuf {
    let around = TemplateProcessing::builder()
        .try_single("<|a $A <|end|>")
        .unwrap()
        .special_tokens(vec![("<|end|>", 0), ("<|a", 2)])
        .build()
        .unwrap();
    let model = WordPiece::builder()
        .unk_token("[UNK]".into())
        .build()
        .unwrap();
    let mut tokenizer = TokenizerBuilder::default()
        .with_model(model)
        .with_normalizer(Some(normaliser))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(around))
        .with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()))
        .build()
        .unwrap();
    let mut trainer = WordPieceTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(TOKENS as usize)
        .special_tokens(special())
        .build();
    let lines = TEXT.lines().map(str::to_owned);
    tokenizer.train(&mut trainer, lines).unwrap();
    let folder = folder(name);
    tokenizer
        .save(folder.join("tokenizer.json"), false)
        .unwrap();
    folder
}

/// Texts put together from pieces that matter to some tokenizer.
struct Texts(u32);

impl Texts {
    fn number(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % below
    }

    fn next(&mut self) -> String {
        const PIECES: &[&str] = &[
            "turn ",
            "THE",
            " heating",
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "off in the study",
            "Ä",
            "İ",
            "ΑΣ",
            "ß",
            "東京",
            "🙂",
            "e\u{301}",
            "<|answer|>",
            "<|a",
            "<|",
            "|>",
            "42",
            "1234567",
            "let mut ",
            "tokens",
            "\u{0}",
            "DŽ",
            "\u{10FFFF}",
            "self.",
            "::",
            "'s",
            "'S",
            "'ſ",
            "'ll",
            "'LL",
            "'re",
            "'",
            "don't",
            "\u{A0}",
            "\u{2003}",
            "\u{3000}",
            "½",
            "Ⅷ",
            "٣",
            "한국어",
            "각",
            "שָׁלוֹם",
            "नमस्ते",
            "Ελλάς",
            "ǰ",
            "\u{1E9E}",
            "≮",
            "\u{37E}",
            "豈",
            "\u{200B}",
            "\u{AD}",
            "\u{FFFD}",
            "[UNK]",
            "##s",
            "supercalifragilistic",
            "naïve",
            "Привет",
            "мир",
            "ьы",
            "_",
            "«",
            "…",
            "\u{16FF0}",
            "ﬁ",
        ];
        let count = self.number(14);
        let mut text: String = (0..count)
            .map(|_| PIECES[self.number(PIECES.len())])
            .collect();
        // Any character at all, now and then.
        for _ in 0..self.number(3) {
            text.extend(char::from_u32(self.number(0x11_0000) as u32));
            text.extend(char::from_u32(self.number(0x3000) as u32));
        }
        text
    }
}

/// Compares the two on many texts, and what the pieces of byte pairs say.
fn compare(folder: PathBuf, spells: bool) {
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let text = LoweredText::of(&folder.as_path().into(), tokenizer.vocab_size()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let section = text.section.unwrap();
    let board = BoardTokenizer::of_section(&section, TOKENS).unwrap();
    let mut texts = Texts(3);
    let random = std::iter::repeat_with(|| texts.next()).take(3000);
    for text in random
        .chain(TEXT.lines().map(str::to_owned))
        .chain([TEXT.to_owned()])
    {
        let mut work = vec![0; WORDS_PER_BYTE * 2 * (text.len() + 4)];
        let mut got = Vec::new();
        let taken = board.encode(&text, &mut work, |token| {
            got.push(token);
            Ok(())
        });
        taken.unwrap();
        assert_eq!(
            got,
            tokenizer.encode(&text, true).unwrap(),
            "{}: {text:?}",
            folder.display()
        );
        if !spells {
            continue;
        }
        let bytes: Vec<u8> = got
            .iter()
            .flat_map(|&token| board.piece(token).to_vec())
            .collect();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            tokenizer.decode(&got, false).unwrap()
        );
    }
}

#[test]
fn byte_pairs_of_whole_texts() {
    for lowers in [false, true] {
        let whole = ByteLevel::new(false, true, false);
        let name = format!("whole-{lowers}");
        compare(byte_pairs(&name, lowers, whole.into()), true);
    }
}

#[test]
fn byte_pairs_of_pieces() {
    let gpt2 = || ByteLevel::new(false, true, true);
    let digits: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), gpt2().into()];
    compare(byte_pairs("gpt2", false, gpt2().into()), true);
    compare(
        byte_pairs("smollm2", false, Sequence::new(digits).into()),
        true,
    );
    for (name, pattern) in [("llama3", LLAMA3), ("qwen2", QWEN2)] {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap();
        let steps = vec![split.into(), ByteLevel::new(false, true, false).into()];
        compare(byte_pairs(name, false, Sequence::new(steps).into()), true);
    }
}

#[test]
fn words() {
    compare(word_piece("uncased", BertNormalizer::default()), false);
    let cased = BertNormalizer::new(true, true, Some(false), false);
    compare(word_piece("cased", cased), false);
    let accents = BertNormalizer::new(false, false, Some(false), true);
    compare(word_piece("accents", accents), false);
}

#[test]
fn what_a_board_cannot_do_is_refused_with_the_reason() {
    let whole = ByteLevel::new(false, true, false);
    let folder = byte_pairs("refused", false, whole.into());
    let path = folder.join("tokenizer.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (pointer, value, reason) in [
        ("/normalizer", serde_json::json!({"type": "NFC"}), "NFC"),
        ("/model/ignore_merges", true.into(), "options"),
        ("/pre_tokenizer/add_prefix_space", true.into(), "bytes"),
    ] {
        let mut changed = json.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        std::fs::write(&path, changed.to_string()).unwrap();
        let text = LoweredText::of(&folder.as_path().into(), TOKENS as usize).unwrap();
        let refused = text.section.unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
