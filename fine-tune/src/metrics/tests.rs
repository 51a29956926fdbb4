//! BLEU and chrF against sacreBLEU, the other metrics against values worked out by hand.

use serde_json::Value;

use super::*;

fn samples<'a>(answers: &'a [String], references: &'a [Vec<String>]) -> Vec<Sample<'a>> {
    let pairs = answers.iter().zip(references);
    pairs
        .map(|(answer, references)| Sample {
            answer,
            references,
            loss: None,
        })
        .collect()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn metric(case: &Value) -> Box<dyn Metric> {
    let options = &case["options"];
    let flag = |name: &str| options[name].as_bool().unwrap_or(false);
    let order = |name: &str, default| options[name].as_u64().map_or(default, |n| n as usize);
    if case["metric"] == "chrf" {
        return Box::new(Chrf {
            word_order: order("word_order", 0),
            beta: options["beta"].as_f64().unwrap_or(2.0),
            lower_case: flag("lowercase"),
            white_space: flag("whitespace"),
            epsilon: flag("eps_smoothing"),
            ..Chrf::default()
        });
    }
    let mut bleu = Bleu::new(match options["tokenize"].as_str() {
        Some("none") => Tokenise::Words,
        Some("intl") => Tokenise::International,
        Some("char") => Tokenise::Characters,
        _ => Tokenise::Mteval13a,
    });
    let value = options["smooth_value"].as_f64();
    bleu.smoothing = match options["smooth_method"].as_str() {
        Some("none") => Smoothing::None,
        Some("floor") => Smoothing::Floor(value.unwrap()),
        Some("add-k") => Smoothing::AddK(value.unwrap()),
        _ => Smoothing::Exp,
    };
    bleu.lower_case = flag("lowercase");
    bleu.effective_order = flag("effective_order");
    bleu.max_order = order("max_ngram_order", 4);
    Box::new(bleu)
}

#[test]
fn bleu_and_chrf_are_those_of_sacrebleu() {
    let golden: Value = serde_json::from_str(include_str!("goldens/sacrebleu.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 200);
    for case in cases {
        let texts = &golden["texts"][case["texts"].as_u64().unwrap() as usize];
        let answers = strings(&texts["answers"]);
        let references: Vec<Vec<String>> = texts["references"]
            .as_array()
            .unwrap()
            .iter()
            .map(strings)
            .collect();
        let metric = metric(case);
        let table = metric.measure(&samples(&answers, &references));
        let close = |found: f64, wanted: &Value, place: &str| {
            let wanted = wanted.as_f64().unwrap();
            assert!(
                (found - wanted).abs() < 1e-6,
                "{place}: {found}, sacreBLEU says {wanted}: {case}"
            );
        };
        close(metric.score(&table.sum()), &case["score"], "corpus");
        for (index, wanted) in case["sentences"].as_array().unwrap().iter().enumerate() {
            close(metric.score_one(&table.row(index)), wanted, "sentence");
        }
    }
}

/// The score of answers, each with one reference.
fn score(name: &str, pairs: &[(&str, &str)]) -> f64 {
    let answers: Vec<String> = pairs
        .iter()
        .map(|(answer, _)| (*answer).to_owned())
        .collect();
    let references: Vec<Vec<String>> = pairs
        .iter()
        .map(|(_, text)| vec![(*text).to_owned()])
        .collect();
    let metric = by_name(name).unwrap();
    metric.score(&metric.measure(&samples(&answers, &references)).sum())
}

#[test]
fn the_other_metrics_are_what_their_definitions_say() {
    let close =
        |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
    close(score("exact-match", &[(" on\n", "on"), ("On", "on")]), 50.0);
    // Shared "cat sat": precision 2/3, recall 2/2.
    close(
        score("f1-token", &[("The black cat sat.", "a cat, sat")]),
        80.0,
    );
    close(score("f1-token", &[("the", ""), ("x", "")]), 50.0);

    let wanted = r#"{"level": 40, "rooms": ["a", {"b": null}]}"#;
    let json = [
        (r#"{"rooms":["a",{"b":null}],"level":4e1}"#, wanted),
        (r#"{"rooms":["a",{"b":null}],"level":41}"#, wanted),
        (r#"{"rooms":["a",{"b":null}]}"#, wanted),
        (r#"{"level": 40"#, wanted),
        ("7", "no JSON"),
    ];
    close(score("json-valid", &json), 80.0);
    close(score("json-equal", &json), 25.0);

    // a: 2 right, answered 3, wanted 2. b: 1 right, answered 1, wanted 3. c: never right, answered 0, wanted 1.
    let labels = [
        ("a", "a"),
        ("A.\nbecause", "a"),
        ("b", "b"),
        ("a", "b"),
        ("I don't know", "b"),
        ("", "c"),
    ];
    close(score("accuracy", &labels), 50.0);
    close(
        score("f1-macro", &labels),
        100.0 * (4.0 / 5.0 + 2.0 / 4.0) / 3.0,
    );
    close(score("f1-micro", &labels), 100.0 * 6.0 / (4.0 + 6.0));

    // What has no reference isn't an answer.
    let references = ["x".to_owned()];
    let sample = |references| Sample {
        answer: "x",
        references,
        loss: None,
    };
    for metric in all()
        .iter()
        .filter(|m| m.name().starts_with(['e', 'a', 'f']))
    {
        let table = metric.measure(&[sample(&references[..]), sample(&[])]);
        close(metric.score(&table.sum()), 100.0);
    }

    let loss = |nats, tokens| Sample {
        answer: "",
        references: &[],
        loss: Some(Loss { nats, tokens }),
    };
    let table = Perplexity.measure(&[loss(2.0, 1.0), loss(4.0, 2.0)]);
    close(Perplexity.score(&table.sum()), 2f64.exp());
    close(Perplexity.score(&table.weighted_sum(&[0, 3])), 2f64.exp());
}

#[test]
fn metrics_bear_any_text() {
    let hostile = [
        "",
        " ",
        "\u{0}",
        "🙂🙂",
        "...,,,",
        "[[[[",
        "e\u{301}\u{1f}x",
        "\"",
        "-\n-",
        "&&&amp;",
    ];
    for metric in all() {
        for answer in hostile {
            let references: Vec<String> = hostile.iter().map(|text| (*text).to_owned()).collect();
            let sample = |references| Sample {
                answer,
                references,
                loss: None,
            };
            let table = metric.measure(&[sample(&references), sample(&[])]);
            assert_eq!(table.len(), 2);
            let score = metric.score(&table.sum());
            assert!(
                score.is_nan() || (0.0..=100.000_001).contains(&score),
                "{}",
                metric.name()
            );
        }
    }
}
