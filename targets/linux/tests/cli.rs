//! The program from outside: its commands on a tiny model with random weights, and what it says when something is wrong.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use furlong::npz::{self, Dtype, Limits, NpyArray};
use serde_json::Value;

const COMMANDS: [&str; 11] = [
    "run",
    "chat",
    "classify",
    "embed",
    "infer",
    "inspect",
    "pack",
    "plan",
    "perplexity",
    "bench",
    "doctor",
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// The program, started through `FURLONG_RUNNER` (an emulator and its arguments) where the test itself is emulated.
fn program() -> Command {
    let program = env!("CARGO_BIN_EXE_furlong");
    let runner = std::env::var("FURLONG_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    match words.next() {
        None => Command::new(program),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(program);
            command
        }
    }
}

fn furlong(arguments: &[&str], input: &str) -> Output {
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it has read its input is not a mistake of this test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ok(arguments: &[&str], input: &str) -> String {
    let output = furlong(arguments, input);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn json(arguments: &[&str], input: &str) -> Value {
    serde_json::from_str(&ok(arguments, input)).unwrap()
}

fn model() -> String {
    data("tiny-chat").display().to_string()
}

#[test]
fn every_command_shows_an_example() {
    for command in COMMANDS {
        let help = ok(&[command, "--help"], "");
        assert!(help.contains(&format!("furlong {command} ")), "{command}");
    }
}

#[test]
fn mistakes_have_their_exit_codes() {
    assert_eq!(furlong(&["run"], "").status.code(), Some(2));
    assert_eq!(furlong(&["fly"], "").status.code(), Some(2));
    let missing = furlong(&["run", "--model", "no/such/folder", "Hello"], "");
    assert_eq!(missing.status.code(), Some(1));
    let message = text(&missing.stderr);
    assert!(
        message.starts_with("error: ") && message.contains("no/such/folder"),
        "{message}"
    );
    assert!(message.contains("\nhint: "), "{message}");
    let model = model();
    for wrong in [
        vec!["embed", "--model", &model, "x"],
        vec!["classify", "--model", &model, "x"],
        vec!["run", "--model", &model, "--temperature=-1", "x"],
        vec!["run", "--model", &model, "--raw", ""],
        vec![
            "run",
            "--model",
            &model,
            "--context",
            "4",
            "This prompt has more tokens than that.",
        ],
    ] {
        let output = furlong(&wrong, "");
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}

#[test]
fn the_built_in_model_needs_no_files() {
    let answer = ok(&["run", "turn the heating off in the study"], "");
    assert_eq!(answer, "{\"intent\":\"heating.off\",\"room\":\"study\"}\n");
    let chatted = ok(&["chat"], "turn the heating off in the study\n");
    assert_eq!(chatted, answer);
    let inspected = json(&["inspect", "--json"], "");
    assert_eq!(inspected["kind"], "decoder");
    assert!(!furlong(&["embed", "a cat"], "").status.success());
}

/// A classifier that somebody else exported: its classes are named in the config beside it.
#[test]
fn classify_names_the_likeliest_class() {
    let home = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/encoders");
    std::fs::copy(
        models.join("classifier.onnx"),
        home.path().join("model.onnx"),
    )
    .unwrap();
    let words: serde_json::Map<String, Value> =
        (0..64).map(|id| (format!("w{id}"), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordPiece", "unk_token": "w0", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
            "vocab": words},
    });
    let write = |name: &str, value: &Value| {
        std::fs::write(home.path().join(name), value.to_string()).unwrap()
    };
    write("tokenizer.json", &tokenizer);
    let folder = home.path().display().to_string();
    let classify = ["classify", "--model", &folder, "-"];
    let unnamed = furlong(&classify, "w1 w2\n");
    assert_eq!(unnamed.status.code(), Some(1));
    assert!(
        text(&unnamed.stderr).contains("id2label"),
        "{}",
        text(&unnamed.stderr)
    );

    let labels: Vec<String> = (0..12).map(|id| format!("class {id}")).collect();
    let named: serde_json::Map<String, Value> = (0..)
        .zip(&labels)
        .map(|(id, label)| (format!("{id}"), label.as_str().into()))
        .collect();
    write("config.json", &serde_json::json!({"id2label": named}));
    let input = "w1 w2 w3\n\nw60\n";
    let found = json(&["classify", "--json", "--model", &folder, "-"], input);
    assert_eq!(found["labels"], serde_json::json!(labels));
    let rows = found["texts"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "an empty line is no text");
    let shown = ok(&classify, input);
    for (row, line) in rows.iter().zip(shown.lines()) {
        let all = row["probabilities"].as_array().unwrap();
        let all: Vec<f64> = all.iter().map(|p| p.as_f64().unwrap()).collect();
        let most = all.iter().copied().fold(0.0, f64::max);
        assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        let best = all.iter().position(|&p| p == most).unwrap();
        assert_eq!(row["label"], labels[best].as_str());
        assert!(
            line.starts_with(&labels[best]) && line.contains(&format!("{most:.3}")),
            "{line}"
        );
    }
    let embed = furlong(&["embed", "--model", &folder, "w1"], "");
    assert!(
        text(&embed.stderr).contains("furlong classify"),
        "{}",
        text(&embed.stderr)
    );
}

#[test]
fn run_says_the_same_in_text_and_in_json() {
    let model = model();
    let run = [
        "run",
        "--model",
        &model,
        "--max-tokens",
        "12",
        "--seed",
        "5",
        "--temperature",
        "1.5",
    ];
    let shown = ok(&[&run[..], &["Hello!"]].concat(), "");
    let from_stdin = ok(&[&run[..], &["-"]].concat(), "Hello!\n");
    assert_eq!(shown, from_stdin);
    let result = json(&[&run[..], &["--json", "Hello!"]].concat(), "");
    assert_eq!(format!("{}\n", result["text"].as_str().unwrap()), shown);
    assert_eq!(result["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(result["finish_reason"], "length");
    assert!(
        result["prompt_tokens"].as_u64().unwrap() > 20,
        "the chat template was left out"
    );
    assert!(result["timings"]["ttft_s"].as_f64().unwrap() > 0.0);

    let raw = json(&[&run[..], &["--json", "--raw", "Hello!"]].concat(), "");
    assert!(raw["prompt_tokens"].as_u64().unwrap() < 20);
    let greedy = |threads| {
        let arguments = [
            "run",
            "--model",
            &model,
            "--threads",
            threads,
            "--json",
            "Hello!",
        ];
        json(
            &[&arguments[..], &["--max-tokens", "30", "--ignore-eos"]].concat(),
            "",
        )["tokens"]
            .clone()
    };
    assert_eq!(greedy("1"), greedy("2"));

    // The first two characters of the answer as a stop string leave nothing of it.
    let stop: String = shown.chars().take(2).collect();
    let stopped = json(
        &[&run[..], &["--json", "--stop", &stop, "Hello!"]].concat(),
        "",
    );
    assert_eq!(
        (stopped["text"].as_str(), stopped["finish_reason"].as_str()),
        (Some(""), Some("stop"))
    );
}

#[test]
fn chat_answers_each_line_and_can_forget() {
    let model = model();
    let chat = ["chat", "--model", &model, "--max-tokens", "8"];
    let once = ok(&chat, "Hello!\n");
    let again = ok(&chat, "Hello!\n/reset\n\nHello!\n/quit\nnever read\n");
    assert_eq!(again, once.repeat(2));
    assert_ne!(ok(&chat, "Hello!\nHello!\n"), once.repeat(2));
}

/// A PEFT folder called `name` that changes every block's feed-forward, by numbers that `seed` chooses.
fn adapter(home: &Path, name: &str, seed: usize) -> String {
    let folder = home.join(name);
    std::fs::create_dir(&folder).unwrap();
    let config = r#"{"peft_type":"LORA","r":2,"lora_alpha":4}"#;
    std::fs::write(folder.join("adapter_config.json"), config).unwrap();
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (layer, part, shape) in [
        (0, "A", [2, 64]),
        (0, "B", [32, 2]),
        (1, "A", [2, 64]),
        (1, "B", [32, 2]),
    ] {
        let name =
            format!("base_model.model.model.layers.{layer}.mlp.down_proj.lora_{part}.weight");
        let start = data.len();
        for i in 0..shape[0] * shape[1] {
            let number = ((i * 7919 + seed * 104_729 + layer) % 1013) as f32 / 1013.0 - 0.5;
            data.extend(number.to_le_bytes());
        }
        let end = data.len();
        header.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    std::fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
    folder.display().to_string()
}

#[test]
fn adapters_answer_side_by_side_and_in_turn() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (
        adapter(home.path(), "one", 1),
        adapter(home.path(), "two", 2),
    );
    let model = model();
    let ask = |command: &str, more: &[&str], input: &str| {
        let arguments = [command, "--model", &model, "--max-tokens", "8"];
        let prompt: &[&str] = if command == "run" { &["Hello!"] } else { &[] };
        ok(&[&arguments[..], more, prompt].concat(), input)
    };
    let plain = ask("run", &[], "");
    let [first, second] = [&one, &two].map(|folder| ask("run", &["--adapter", folder], ""));
    assert!(plain != first && first != second && plain != second);
    let named = format!("b={two}");
    let all = ["--adapter", "none", "--adapter", &one, "--adapter", &named];
    assert_eq!(
        ask("run", &all, ""),
        format!("[none]\n{plain}[one]\n{first}[b]\n{second}")
    );
    let lines = "/adapter one\nHello!\n/reset\n/adapter none\nHello!\n/reset\n/adapter b\nHello!\n/adapter c\n";
    assert_eq!(ask("chat", &all, lines), format!("{first}{plain}{second}"));

    for wrong in [
        vec!["--adapter", "no-such-adapter"],
        vec!["--adapter", &one, "--adapter", &one],
        vec!["--adapter", home.path().to_str().unwrap()],
    ] {
        let arguments = [&["run", "--model", &model][..], &wrong, &["x"]].concat();
        let output = furlong(&arguments, "");
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}

#[test]
fn measuring_commands_fill_their_json() {
    let model = model();
    let bench = json(
        &[
            "bench",
            "--model",
            &model,
            "-p",
            "32",
            "-n",
            "8",
            "--threads",
            "1",
            "--json",
        ],
        "",
    );
    for key in [
        "prefill_tok_s",
        "decode_tok_s",
        "prefill_cpu_ms_per_token",
        "decode_cpu_ms_per_token",
        "load_s",
        "ttft_s",
        "peak_rss_bytes",
        "bandwidth_gb_s",
        "ceiling_share",
    ] {
        assert!(
            bench[key].as_f64().is_some_and(|value| value > 0.0),
            "{key}"
        );
    }
    let deep = json(
        &[
            "bench",
            "--model",
            &model,
            "-p",
            "8",
            "-n",
            "4",
            "--depth",
            "16",
            "--repeat",
            "2",
            "--no-ceiling",
            "--profile",
            "--json",
        ],
        "",
    );
    assert!(deep["bandwidth_gb_s"].is_null());
    let decode = &deep["profile"]["decode"];
    assert_eq!(decode["tokens"], 2 * 4);
    let rows = decode["rows"].as_array().unwrap();
    let bytes: u64 = rows
        .iter()
        .filter(|row| row["op"] != "QuantGather")
        .map(|row| row["weights_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(bytes, 2 * 4 * deep["weights_bytes"].as_u64().unwrap());
    let inspect = json(
        &["inspect", "--model", &model, "--context", "100", "--json"],
        "",
    );
    assert_eq!(inspect["memory"]["context"], 100);
    // Two layers, keys and values, two heads of eight f16.
    assert_eq!(inspect["memory"]["cache_bytes"], 100 * 2 * 2 * 2 * 8 * 2);
    assert!(!inspect["linears"].as_array().unwrap().is_empty());
    let doctor = json(&["doctor", "--model", &model, "--json"], "");
    assert!(doctor["model"]["decode_ceiling_tok_s"].as_f64().unwrap() > 0.0);
    for command in ["bench", "inspect", "doctor"] {
        assert!(!ok(&[command, "--model", &model], "").is_empty());
    }
}

#[test]
fn perplexity_of_a_model_that_knows_nothing_is_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(
        &path,
        "The quick brown fox jumps over the lazy dog. ".repeat(20),
    )
    .unwrap();
    let (model, path) = (model(), path.display().to_string());
    let arguments = ["perplexity", "--model", &model, "--text", &path];
    let result = json(
        &[&arguments[..], &["--context", "64", "--json"]].concat(),
        "",
    );
    let (tokens, windows) = (
        result["tokens"].as_u64().unwrap(),
        result["windows"].as_u64().unwrap(),
    );
    assert_eq!(windows, tokens / 64);
    assert_eq!(result["scored"].as_u64().unwrap(), windows * 31);
    assert!(result["perplexity"].as_f64().unwrap() > 20.0);
    let some = ["--context", "64", "--windows", "2", "--json"];
    let result = json(&[&arguments[..], &some].concat(), "");
    assert!(windows > 2 && result["windows"] == 2 && result["tokens"] == 128);
    let short = furlong(&[&arguments[..], &["--context", "512"]].concat(), "");
    assert_eq!(short.status.code(), Some(1));
}

#[test]
fn infer_takes_and_gives_named_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let floats = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let integers = |numbers: &[i64]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let array = |dtype, shape: &[usize], data| NpyArray {
        dtype,
        shape: shape.to_vec(),
        data,
    };
    let inputs = [
        (
            "a".to_owned(),
            array(Dtype::F32, &[2, 2], floats(&[1.0, 2.0, 3.0, 4.0])),
        ),
        (
            "b".to_owned(),
            array(Dtype::F32, &[2], floats(&[10.0, 20.0])),
        ),
        (
            "n".to_owned(),
            array(Dtype::I64, &[3], integers(&[1, -2, i64::from(u32::MAX)])),
        ),
    ];
    npz::write(Path::new(&place("in.npz")), &inputs).unwrap();
    let (graph, input, output) = (
        data("graph.onnx").display().to_string(),
        place("in.npz"),
        place("out.npz"),
    );
    let arguments = [
        "infer", "--model", &graph, "--input", &input, "--output", &output, "--json",
    ];
    for stock in [&[][..], &["--stock"]] {
        let listed = json(&[&arguments[..], stock].concat(), "");
        assert_eq!(listed["outputs"][0]["name"], "sum");
        assert_eq!(listed["outputs"][0]["dtype"], "float32");
        assert_eq!(listed["outputs"][0]["shape"], serde_json::json!([2, 2]));
        let outputs = npz::read(Path::new(&output), Limits::default()).unwrap();
        assert_eq!(
            outputs,
            [
                (
                    "sum".to_owned(),
                    array(Dtype::F32, &[2, 2], floats(&[11.0, 22.0, 13.0, 24.0]))
                ),
                (
                    "twice".to_owned(),
                    array(
                        Dtype::I64,
                        &[3],
                        integers(&[2, -4, 2 * i64::from(u32::MAX)])
                    )
                ),
            ]
        );
    }
    npz::write(Path::new(&input), &inputs[..1]).unwrap();
    let incomplete = furlong(&arguments, "");
    assert_eq!(incomplete.status.code(), Some(1));
    assert!(text(&incomplete.stderr).contains('b'));
}

#[test]
fn weights_packed_ahead_are_mapped() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(data("tiny-chat")).unwrap() {
        let file = file.unwrap();
        if file.path().is_file() {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    let model = folder.path().display().to_string();
    let mapped_from = || {
        let report = json(&["inspect", "--model", &model, "--json"], "");
        report["weights_file"].clone()
    };
    assert_eq!(mapped_from(), Value::Null);
    let packed = json(&["pack", "--model", &model, "--json"], "");
    assert_eq!(mapped_from(), packed["file"]);
    let other = folder.path().join("board.packed").display().to_string();
    let arguments = [
        "pack",
        "--model",
        &model,
        "--isa",
        "neon-dotprod",
        "--out",
        &other,
    ];
    ok(&arguments, "");
    assert!(Path::new(&other).is_file());
    assert!(
        !furlong(&["pack", "--model", &model, "--isa", "mmx"], "")
            .status
            .success()
    );
}
