//! Held against the `tokenizers` crate's own model, on trained vocabularies and on merges in an order that no training gives.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

use super::BytePairs;
use crate::text::Tokenizer;
use crate::text::tokenizer::Inner;

/// A generator that needs no crate: numerical recipes' constants.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }

    fn word(&mut self, letters: &[char], longest: usize) -> String {
        let count = self.below(longest + 1);
        (0..count)
            .map(|_| letters[self.below(letters.len())])
            .collect()
    }
}

/// A model of few letters with random merges: most pairs can be merged in several ways, and ranks follow no order.
fn model(random: &mut Random, ignore_merges: bool) -> Value {
    let mut tokens: Vec<String> = ["a", "b", "ç", "東"].map(str::to_owned).to_vec();
    let mut merges = Vec::new();
    for _ in 0..60 {
        let [left, right] = [(); 2].map(|()| tokens[random.below(tokens.len())].clone());
        let both = format!("{left}{right}");
        if both.chars().count() > 7 {
            continue;
        }
        if !tokens.contains(&both) {
            tokens.push(both);
        }
        let place = random.below(merges.len() + 1);
        merges.insert(place, (left, right));
    }
    // Some that only `ignore_merges` finds.
    tokens.extend(["aaaaaaaaa", "çb東ç東aab"].map(str::to_owned));
    let old = random.below(2) == 0;
    let merges = merges.into_iter().map(|(left, right)| match old {
        true => json!(format!("{left} {right}")),
        false => json!([left, right]),
    });
    let vocabulary = (0u32..)
        .zip(&tokens)
        .map(|(id, token)| (token.clone(), json!(id)));
    json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary.collect::<serde_json::Map<_, _>>(),
        "merges": merges.collect::<Vec<_>>(),
    })
}

#[test]
fn words_become_the_tokens_that_the_crate_makes() {
    let mut random = Random(7);
    for round in 0..60 {
        let text = model(&mut random, round % 3 == 0).to_string();
        let ours: BytePairs = serde_json::from_str(&text).unwrap();
        let theirs: BPE = serde_json::from_str(&text).unwrap();
        assert_eq!(ours.get_vocab(), theirs.get_vocab());
        for longest in (0..200).map(|n| n / 8) {
            // A letter that no token has is among them.
            let word = random.word(&['a', 'a', 'b', 'ç', '東', 'x'], longest);
            let (ours, theirs) = (ours.tokenize(&word), theirs.tokenize(&word));
            assert_eq!(ours.unwrap(), theirs.unwrap(), "{word:?} with {text}");
        }
        for id in [0, 3, theirs.get_vocab_size() as u32 - 1, u32::MAX] {
            assert_eq!(ours.id_to_token(id), theirs.id_to_token(id));
        }
        assert_eq!(ours.token_to_id("xx"), None);
    }
}

/// Whether ours reads this model.
fn is_lean(model: &Value) -> bool {
    serde_json::from_str::<BytePairs>(&model.to_string()).is_ok()
}

#[test]
fn what_ours_does_not_know_is_left_to_the_crate() {
    let plain = model(&mut Random(1), false);
    assert!(is_lean(&plain));
    for (option, value) in [
        ("dropout", json!(0.5)),
        ("unk_token", json!("a")),
        ("continuing_subword_prefix", json!("##")),
        ("end_of_word_suffix", json!("</w>")),
        ("byte_fallback", json!(true)),
        // A gap, two tokens of one id, an id past all.
        ("vocab", json!({"a": 0, "b": 2})),
        ("vocab", json!({"a": 0, "b": 0})),
        ("vocab", json!({"a": 0, "b": u32::MAX})),
        ("merges", json!([["a", "no token"]])),
        ("merges", json!([["a"]])),
        ("merges", json!([["a", "b", "a"]])),
        ("merges", json!(["ab"])),
    ] {
        let mut other = plain.clone();
        other[option] = value;
        assert!(!is_lean(&other), "{option}");
    }
}

#[test]
fn the_built_in_model_is_read_by_ours() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../targets/linux/models/home-commands/tokenizer.json");
    let bytes = std::fs::read(&path).unwrap();
    assert!(matches!(Inner::from_bytes(&bytes), Ok(Inner::Lean(_))));
    assert!(Tokenizer::from_bytes(&path, &bytes).is_ok());
}
