//! Held against what Hugging Face's own code makes of the same templates and texts (`goldens/make.py`).

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::*;
use crate::Error;

/// The time that the golden files were made for.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_736_944_496)
}

fn template(source: &str) -> Result<ChatTemplate, Error> {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(name, text)| (name.to_owned(), text.to_owned()));
    ChatTemplate::new(Path::new("template"), source, tokens.to_vec())
}

fn check_template(golden: &str) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let template = template(golden["template"].as_str().unwrap()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
        let messages: Vec<Message> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| Message::new(text(message, "role"), text(message, "content")))
            .collect();
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let rendered = template.render(&messages, prompt, now());
        match case["text"].as_str() {
            Some(expected) => assert_eq!(rendered.unwrap(), expected),
            None => assert!(rendered.is_err()),
        }
    }
}

#[test]
fn templates_render_as_in_python() {
    check_template(include_str!("goldens/template_smollm2.json"));
    check_template(include_str!("goldens/template_llama3.json"));
    check_template(include_str!("goldens/template_qwen2.5.json"));
    check_template(include_str!("goldens/template_qwen3.json"));
    check_template(include_str!("goldens/template_features.json"));
}

#[test]
fn hostile_templates_are_errors() {
    let doubling = "{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}\
                    {% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    let nesting = "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% for j in range(100) %}\
                   {% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    for source in [
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        doubling,
        nesting,
        "{{ 'x' * 1000000000000 }}",
        "{{ ([1] * 99999999) | tojson }}",
        "{{ ([[1] * 9999] * 9999) | tojson }}",
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        "{{ messages[0].content.content.content }}",
        "{{ raise_exception('no') }}",
    ] {
        let start = Instant::now();
        let template = template(source).unwrap();
        let rendered = template.render(&[Message::new("user", "x")], true, now());
        assert!(rendered.is_err(), "{source}");
        assert!(start.elapsed() < Duration::from_secs(20), "{source}");
    }
    for (start, repeated, end) in [
        ("{% if %}", "", ""),
        ("{{ 'x", "", ""),
        ("{% include 'other' %}", "", ""),
        ("", "{% if true %}", ""),
        (
            "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x }}",
            "",
            "",
        ),
        (
            "{% set new = namespace %}{% set ns = new() %}{% set ns.x = ns %}{{ ns.x }}",
            "",
            "",
        ),
        ("{{ ", "(", ""),
        ("{{ ", "[", "}}"),
        ("", "x", "x"),
    ] {
        let source = [start, &repeated.repeat(64 << 10), end].concat();
        assert!(template(&source).is_err(), "{start}{repeated}");
    }
    // Deep, but a template.
    for (start, repeated, end) in [
        ("{{ ", "-", "1 }}"),
        ("{{ 1", ".a", "}}"),
        ("{{ 1", "+1", "}}"),
    ] {
        let source = [start, &repeated.repeat(30 << 10), end].concat();
        let _ = template(&source).and_then(|template| template.render(&[], true, now()));
    }
}

fn check_tokenizer(golden: &str) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let bytes = golden["tokenizer"].to_string();
    let tokenizer = Tokenizer::from_bytes(Path::new("tokenizer.json"), bytes.as_bytes()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let decoded = case["decoded"].as_str().unwrap();
        let ids = tokenizer
            .encode(case["text"].as_str().unwrap(), true)
            .unwrap();
        assert_eq!(ids, expected);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), decoded);

        let mut stream = tokenizer.stream(false);
        let mut streamed = String::new();
        for &id in &ids {
            stream.push(id, &mut streamed).unwrap();
            // Had a character been split, one half of it would show.
            assert!(!streamed.contains(char::REPLACEMENT_CHARACTER));
        }
        stream.finish(&mut streamed).unwrap();
        assert_eq!(streamed, decoded);
    }
}

#[test]
fn tokenizers_round_trip_and_stream_as_in_python() {
    check_tokenizer(include_str!("goldens/tokenizer_byte_level.json"));
    check_tokenizer(include_str!("goldens/tokenizer_sentence_piece.json"));
    check_tokenizer(include_str!("goldens/tokenizer_word_piece.json"));
}

#[test]
fn a_stream_waits_for_whole_characters_only() {
    let golden: Value =
        serde_json::from_str(include_str!("goldens/tokenizer_byte_level.json")).unwrap();
    let bytes = golden["tokenizer"].to_string();
    let tokenizer = Tokenizer::from_bytes(Path::new("tokenizer.json"), bytes.as_bytes()).unwrap();
    let ids = tokenizer.encode("a\u{200d}🦀b", false).unwrap();
    let mut stream = tokenizer.stream(false);
    let pieces: Vec<String> = ids
        .iter()
        .map(|&id| {
            let mut piece = String::new();
            stream.push(id, &mut piece).unwrap();
            piece
        })
        .collect();
    assert_eq!(pieces.concat(), "a\u{200d}🦀b");
    assert_eq!(pieces.last().unwrap(), "b");
    assert!(pieces.iter().any(String::is_empty));

    // A text that ends in the middle of a character says so, and an id past the vocabulary has no text.
    let mut stream = tokenizer.stream(false);
    let mut text = String::new();
    stream.push(ids[1], &mut text).unwrap();
    stream.push(1_000_000, &mut text).unwrap();
    assert_eq!(text, "");
    stream.finish(&mut text).unwrap();
    assert_eq!(text, "\u{fffd}");
}

#[test]
fn a_malformed_tokenizer_is_an_error() {
    let golden: Value =
        serde_json::from_str(include_str!("goldens/tokenizer_byte_level.json")).unwrap();
    let bytes = golden["tokenizer"].to_string().into_bytes();
    let path = Path::new("tokenizer.json");
    for length in (0..bytes.len()).step_by(97) {
        assert!(Tokenizer::from_bytes(path, &bytes[..length]).is_err());
    }
    let golden: Value =
        serde_json::from_str(include_str!("goldens/tokenizer_sentence_piece.json")).unwrap();
    let undescribed = golden["tokenizer"].to_string().replace(
        r#"SpecialToken":{"id":"<s>""#,
        r#"SpecialToken":{"id":"<x>""#,
    );
    assert!(Tokenizer::from_bytes(path, undescribed.as_bytes()).is_err());
    for text in ["{}", "[]", "{\"model\":{\"type\":\"BPE\"}}", "\u{0}"] {
        assert!(Tokenizer::from_bytes(path, text.as_bytes()).is_err());
    }
}
