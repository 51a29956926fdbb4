//! The road of an evaluation through the program: a model answers, answers are compared, results are recorded.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const DATA: &str = r#"{"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"hi"}],"id":"chat"}
{"prompt":"one two","completion":" three"}
{"prompt":"again
{"text":"some words to be read, no more","id":"text"}
{"prompt":"LONG","completion":"never answered","id":"long"}
"#;

fn tool(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fine-tune"));
    command
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with data and a copy of the tiny chat model, whose random weights say random things.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let from =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../targets/linux/tests/data/tiny-chat");
    let model = home.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let data = DATA.replace("LONG", &"abc ".repeat(1000));
    std::fs::write(home.path().join("test.jsonl"), data).unwrap();
    home
}

#[test]
fn a_model_is_evaluated_compared_and_its_card_written() {
    let home = home();
    let run = |arguments: &[&str]| tool(home.path(), arguments);
    let evaluate = [
        "evaluate",
        "--model",
        "model",
        "--data",
        "test.jsonl",
        "--max-tokens",
        "8",
        "--json",
    ];
    let metrics = ["--metrics", "exact-match,chrf,perplexity"];

    let one = json(&run(&[
        &evaluate[..],
        &metrics[..],
        &["--out", "one.jsonl"],
    ]
    .concat()));
    assert_eq!(
        (&one["answers"], &one["too_long"], &one["bad_count"]),
        (&4.into(), &1.into(), &1.into())
    );
    assert_eq!(one["bad_lines"][0]["line"], 3);
    let perplexity = one["metrics"][2]["score"].as_f64().unwrap();
    assert!(perplexity > 1.0 && perplexity.is_finite());
    let answers: Vec<Value> = std::fs::read_to_string(home.path().join("one.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ended: Vec<_> = answers
        .iter()
        .map(|answer| answer["ended"].as_str().unwrap())
        .collect();
    assert_eq!(ended[2..], ["scored", "prompt-too-long"]);
    assert!(answers[0]["loss"].as_f64().unwrap() > 0.0);

    // Answers are there already: they are not lost by mistake.
    let again = run(&[&evaluate[..], &["--out", "one.jsonl"]].concat());
    assert_eq!(again.status.code(), Some(1));

    // A model against its own answers: the same, token for token.
    let same = json(&run(&[
        "compare",
        "one.jsonl",
        "model",
        "--data",
        "test.jsonl",
        "--max-tokens",
        "8",
        "--json",
    ]));
    for row in same["metrics"].as_array().unwrap() {
        let outcome = &row["outcome"];
        assert_eq!(
            (&row["wins"], &row["losses"]),
            (&0.into(), &0.into()),
            "{row}"
        );
        assert!(
            outcome.is_null() || outcome["p"] == 1.0 && outcome["difference"] == 0.0,
            "{row}"
        );
    }

    // Answers that belong to other data are refused.
    let other = DATA.replace(" three", " four");
    std::fs::write(home.path().join("other.jsonl"), other).unwrap();
    let refused = run(&["compare", "one.jsonl", "one.jsonl", "--data", "other.jsonl"]);
    assert_eq!(refused.status.code(), Some(1));

    let record = [
        &evaluate[..],
        &metrics[..],
        &["--record", "--before", "one.jsonl"],
    ]
    .concat();
    json(&run(&record));
    let results: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("model/evaluation.json")).unwrap())
            .unwrap();
    assert_eq!(results["before"]["metrics"], results["after"]["metrics"]);
    assert_eq!(results["data"]["name"], "test.jsonl");
    assert!(home.path().join("model/model-card.md").is_file());
    // The rewritten model still answers.
    json(&run(&evaluate));
}

#[test]
fn data_with_a_leak_fails_the_check() {
    let home = home();
    let check = |test: &str| {
        std::fs::write(home.path().join("held-out.jsonl"), test).unwrap();
        let clean = DATA
            .lines()
            .filter(|line| line.ends_with('}'))
            .collect::<Vec<_>>()
            .join("\n");
        std::fs::write(home.path().join("train.jsonl"), clean).unwrap();
        let arguments = [
            "data",
            "check",
            "train.jsonl",
            "--test",
            "held-out.jsonl",
            "--model",
            "model",
            "--json",
        ];
        let output = tool(home.path(), &arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = check(r#"{"prompt":"something quite different","completion":"yes"}"#);
    assert_eq!(code, Some(0), "{report}");
    let (code, report) = check(r#"{"prompt":"One  two","completion":"THREE!"}"#);
    assert_eq!((code, &report["overlap"]["exact"]), (Some(1), &1.into()));
}
