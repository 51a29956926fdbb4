use std::path::Path;
use std::time::UNIX_EPOCH;

use furlong_runtime::text::{ChatTemplate, Tokenizer};

use super::*;
use crate::comparison::Random;
use crate::data::{Content, Example, Turn};
use crate::train::model::Batch;

/// A tokenizer of single bytes: ids 0 to 2 are `<s>`, `<pad>` and `</s>`, and byte b is 3 + b.
fn bytes_tokenizer(folder: &Path) -> Tokenizer {
    let special = ["<s>", "<pad>", "</s>"];
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in special.iter().enumerate() {
        vocabulary.insert((*token).to_owned(), id.into());
    }
    for byte in 0..=255u8 {
        vocabulary.insert(format!("<0x{byte:02X}>"), (3 + usize::from(byte)).into());
    }
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(id, content)| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                               "normalized": false, "special": true})
        })
        .collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteFallback"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false,
                  "vocab": vocabulary, "merges": []}
    });
    std::fs::write(folder.join("tokenizer.json"), json.to_string()).unwrap();
    std::fs::write(folder.join("config.json"), r#"{"eos_token_id": 2}"#).unwrap();
    Tokenizer::load(folder).unwrap()
}

fn template() -> ChatTemplate {
    let source = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}[a]{% endif %}";
    ChatTemplate::new(Path::new("template"), source, Vec::new()).unwrap()
}

fn write(content: Content, change: impl Fn(&mut WriterOptions)) -> Result<Vec<Sample>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (tokenizer, template) = (bytes_tokenizer(folder.path()), template());
    let mut options = WriterOptions {
        max_tokens: 100,
        too_long: TooLong::Split,
        chat: false,
        learn_prompts: false,
        now: UNIX_EPOCH,
    };
    change(&mut options);
    let writer = SampleWriter::new(&tokenizer, Some(&template), options);
    writer.write(&Example {
        id: "1".to_owned(),
        line: 1,
        content,
    })
}

/// The tokens that are learnt and those that aren't, as text; special tokens as `^` (begin) and `$` (end).
fn shown(sample: &Sample, learnt: bool) -> String {
    let tokens = sample.tokens.iter().zip(&sample.learnt);
    tokens
        .filter(|(_, of)| **of == learnt)
        .map(|(token, _)| match token {
            0 => '^',
            2 => '$',
            byte => char::from((byte - 3) as u8),
        })
        .collect()
}

fn completion(prompt: &str, completion: &str) -> Content {
    Content::Completion {
        prompt: prompt.to_owned(),
        completion: completion.to_owned(),
    }
}

fn turn(role: &str, content: &str) -> Turn {
    Turn {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

#[test]
fn only_answers_are_learnt() {
    let one = |content, change: fn(&mut WriterOptions)| {
        let samples = write(content, change).unwrap();
        assert_eq!(samples.len(), 1);
        (shown(&samples[0], false), shown(&samples[0], true))
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(one(completion("ab", "cd"), |_| ()), pair("^ab", "cd$"));
    assert_eq!(
        one(completion("ab", "cd"), |options| options.learn_prompts =
            true),
        pair("^", "abcd$")
    );
    assert_eq!(
        one(completion("ab", "cd"), |options| options.chat = true),
        pair("[u]ab$\n[a]\n", "cd$")
    );
    assert_eq!(
        one(Content::Text("ab".to_owned()), |_| ()),
        pair("^", "ab$")
    );
    let talk = vec![
        turn("system", "s"),
        turn("user", "q"),
        turn("assistant", "a"),
        turn("user", "r"),
        turn("assistant", "b"),
        turn("user", "left out"),
    ];
    assert_eq!(
        one(Content::Messages(talk), |_| ()),
        pair("[s]s$\n[u]q$\n[a]\n[u]r$\n[a]\n", "a$b$")
    );
}

#[test]
fn what_is_too_long_goes_the_way_it_should() {
    let short = |way: TooLong| {
        move |options: &mut WriterOptions| {
            options.max_tokens = 4;
            options.too_long = way;
        }
    };
    let text = || Content::Text("abcdefg".to_owned());
    let lengths =
        |samples: Vec<Sample>| -> Vec<usize> { samples.iter().map(|s| s.tokens.len()).collect() };
    // ^abc defg and a lone end, which is left out.
    let split = write(text(), short(TooLong::Split)).unwrap();
    assert_eq!(shown(&split[1], true), "efg");
    assert_eq!(lengths(split), [4, 4]);
    assert_eq!(lengths(write(text(), short(TooLong::Cut)).unwrap()), [4]);
    write(text(), short(TooLong::Drop)).unwrap_err();
    write(completion("a", "bcdef"), short(TooLong::Split)).unwrap_err();
    // Cut before the answer begins: nothing is left to be learnt.
    write(completion("abcdef", "g"), short(TooLong::Cut)).unwrap_err();
    write(Content::Messages(vec![turn("user", "q")]), |_| ()).unwrap_err();
}

/// Samples whose tokens tell which they are and where in it: number × 100 + place.
fn numbered(lengths: &[usize]) -> Vec<Sample> {
    let sample = |(number, &length): (usize, &usize)| Sample {
        class: None,
        tokens: (0..length)
            .map(|place| (number * 100 + place) as u32)
            .collect(),
        learnt: (0..length).map(|place| place > 0).collect(),
    };
    lengths.iter().enumerate().map(sample).collect()
}

/// Whether each target of a batch is the token behind its own in the same sample, and each position its place in it.
fn check(batch: &Batch) {
    for cell in 0..batch.len() {
        if batch.weights[cell] > 0.0 {
            assert_eq!(batch.targets[cell], batch.ids[cell] + 1);
            assert_eq!(batch.ids[cell + 1], batch.targets[cell]);
            assert_eq!(batch.segments[cell + 1], batch.segments[cell]);
        }
        if batch.segments[cell] > 0 {
            assert_eq!(batch.positions[cell], batch.ids[cell] % 100);
        }
    }
}

#[test]
fn an_epoch_has_every_sample_once() {
    for case in 0..64 {
        let mut random = Random::new(case, 0);
        let lengths: Vec<usize> = (0..1 + random.below(200))
            .map(|_| 2 + random.below(48))
            .collect();
        let samples = numbered(&lengths);
        let arrangement = Arrangement {
            rows: 1 + random.below(8),
            packed: (case % 2 == 0).then_some(64),
            by_length: case % 4 < 2,
            multiple: 8,
        };
        let epoch = Epoch::shuffled(&samples, arrangement, case, 3);
        assert_eq!(Epoch::shuffled(&samples, arrangement, case, 3), epoch);
        let mut seen = Vec::new();
        for number in 0..epoch.len() {
            let batch = epoch.batch(number, &samples).unwrap();
            check(&batch);
            assert!(
                batch.rows <= arrangement.rows
                    && batch.tokens <= 64
                    && batch.tokens.is_multiple_of(8)
            );
            let starts = (0..batch.len())
                .filter(|&cell| batch.segments[cell] > 0 && batch.positions[cell] == 0);
            seen.extend(starts.map(|cell| batch.ids[cell] as usize / 100));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        assert!(epoch.batch(epoch.len(), &samples).is_none());
    }
}

#[test]
fn epochs_and_seeds_differ_and_packing_and_sorting_save_padding() {
    let lengths: Vec<usize> = (0..400).map(|number| 2 + (number * 7) % 45).collect();
    let samples = numbered(&lengths);
    let arrangement = |packed, by_length| Arrangement {
        rows: 4,
        packed,
        by_length,
        multiple: 1,
    };
    let epoch = |arrangement, seed, number| Epoch::shuffled(&samples, arrangement, seed, number);
    let plain = arrangement(None, false);
    assert_ne!(epoch(plain, 1, 0), epoch(plain, 1, 1));
    assert_ne!(epoch(plain, 1, 0), epoch(plain, 2, 0));
    let share = |arrangement| {
        let epoch = epoch(arrangement, 1, 0);
        let batches = (0..epoch.len()).map(|number| epoch.batch(number, &samples).unwrap());
        let (full, all) = batches.fold((0, 0), |(full, all), batch| {
            (full + filled(&batch), all + batch.len())
        });
        full as f64 / all as f64
    };
    let (plain, sorted, packed) = (
        share(plain),
        share(arrangement(None, true)),
        share(arrangement(Some(64), false)),
    );
    assert!(
        plain < 0.8 && sorted > 0.9 && packed > 0.9,
        "{plain} {sorted} {packed}"
    );
}
