//! Small tokenizers of each kind. That real ones cut texts as their models expect was checked against the reference outputs that
//! llama.cpp keeps beside its vocabularies.

use serde_json::json;

use super::*;
use crate::checkpoint::gguf::builder::{Builder, array};
use crate::checkpoint::gguf::parse;

fn kinds(builder: Builder, kinds: &[i32]) -> Builder {
    let items: Vec<Vec<u8>> = kinds
        .iter()
        .map(|kind| kind.to_le_bytes().to_vec())
        .collect();
    builder.entry("tokenizer.ggml.token_type", 9, &array(5, &items))
}

fn sentence_piece(scores: &[f32]) -> Builder {
    let tokens = [
        "<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "b", "ab", "▁a", "▁ab",
    ];
    let scores: Vec<Vec<u8>> = scores
        .iter()
        .map(|score| score.to_le_bytes().to_vec())
        .collect();
    let builder = Builder::default()
        .string("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &tokens)
        .entry("tokenizer.ggml.scores", 9, &array(6, &scores));
    kinds(builder, &[2, 3, 3, 6, 1, 1, 1, 1, 1, 1])
}

fn rebuilt(builder: Builder) -> Result<Option<Tokenizer>, Fault> {
    let bytes = builder.build();
    rebuild(&parse(&bytes)?)
}

#[test]
fn scores_become_merges_with_the_best_first() {
    let scores = [0.0, 0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0];
    let tokenizer = rebuilt(sentence_piece(&scores)).unwrap().unwrap();
    let json = &tokenizer.tokenizer;
    assert_eq!(
        json["model"]["merges"],
        json!(["▁ a", "a b", "▁a b", "▁ ab"])
    );
    assert_eq!(json["model"]["unk_token"], "<unk>");
    assert_eq!(json["normalizer"]["normalizers"][0]["prepend"], "▁");
    assert_eq!(
        json["post_processor"]["single"][0]["SpecialToken"]["id"],
        "<s>"
    );
    assert_eq!(tokenizer.ids["eos_token_id"], 2);
    // Bytes are neither special nor parts of merges.
    assert_eq!(json["added_tokens"].as_array().unwrap().len(), 3);
}

#[test]
fn word_pieces_are_spelt_as_bert_spells_them() {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁play", "ing"];
    let builder = Builder::default()
        .string("tokenizer.ggml.model", "bert")
        .strings("tokenizer.ggml.tokens", &tokens)
        .number("tokenizer.ggml.unknown_token_id", 1)
        .number("tokenizer.ggml.cls_token_id", 2)
        .number("tokenizer.ggml.seperator_token_id", 3);
    let json = rebuilt(kinds(builder, &[3, 3, 3, 3, 1, 1]))
        .unwrap()
        .unwrap()
        .tokenizer;
    let vocabulary =
        json!({ "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "play": 4, "##ing": 5 });
    assert_eq!(json["model"]["vocab"], vocabulary);
    let parts = |template: &Json| -> Vec<String> {
        template
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|part| part.as_object().unwrap().values())
            .map(|part| format!("{} {}", part["id"].as_str().unwrap(), part["type_id"]))
            .collect()
    };
    let pair = parts(&json["post_processor"]["pair"]);
    assert_eq!(pair, ["[CLS] 0", "A 0", "[SEP] 0", "B 1", "[SEP] 1"]);
}

#[test]
fn a_turn_that_the_template_ends_ends_the_generation() {
    let builder = Builder::default()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "llama-bpe")
        .strings(
            "tokenizer.ggml.tokens",
            &["<|begin|>", "<|end_of_text|>", "<|eot_id|>"],
        )
        .strings("tokenizer.ggml.merges", &[])
        .number("tokenizer.ggml.bos_token_id", 0)
        .number("tokenizer.ggml.eos_token_id", 1)
        .string("tokenizer.chat_template", "{{ text }}<|eot_id|>");
    let tokenizer = rebuilt(kinds(builder, &[3, 3, 3])).unwrap().unwrap();
    assert_eq!(tokenizer.ids["eos_token_id"], json!([1, 2]));
    assert_eq!(tokenizer.tokenizer_config["eos_token"], "<|end_of_text|>");
    assert_eq!(
        tokenizer.tokenizer_config["chat_template"],
        "{{ text }}<|eot_id|>"
    );
    // Llama 3's texts begin with a token even where the file doesn't say so.
    assert_eq!(tokenizer.tokenizer_config["add_bos_token"], true);
}

#[test]
fn tables_that_contradict_each_other_are_refused() {
    let bpe = || {
        Builder::default()
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", "gpt-2")
            .strings("tokenizer.ggml.tokens", &["a", "b"])
    };
    let unknown = Builder::default()
        .string("tokenizer.ggml.model", "rwkv")
        .strings("tokenizer.ggml.tokens", &["a"]);
    let other_words = Builder::default()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "tekken")
        .strings("tokenizer.ggml.tokens", &["a"])
        .strings("tokenizer.ggml.merges", &[]);
    let long = "x".repeat(5000);
    let long_piece = Builder::default()
        .string("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &[&long])
        .entry("tokenizer.ggml.scores", 9, &array(6, &[vec![0; 4]]));
    for (what, builder) in [
        ("no merges", bpe()),
        (
            "merge of one",
            bpe().strings("tokenizer.ggml.merges", &["a"]),
        ),
        (
            "merge to nothing",
            bpe().strings("tokenizer.ggml.merges", &["a b"]),
        ),
        ("kinds", kinds(bpe(), &[1])),
        (
            "id",
            bpe()
                .strings("tokenizer.ggml.merges", &[])
                .number("tokenizer.ggml.eos_token_id", 2),
        ),
        ("scores", sentence_piece(&[0.0])),
        ("long piece", long_piece),
        ("model", unknown),
        ("words", other_words),
    ] {
        assert!(rebuilt(builder).is_err(), "{what}");
    }
    assert_eq!(rebuilt(Builder::default()), Ok(None));
}
