//! `furlong plan`: a board's answers are those of Linux, token for token, and a model that doesn't fit is refused with advice.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use furlong_core::plan::{Answer, Event, Finish, Plan, Session};
use furlong_runtime::text::{
    ChatTemplate, FinishReason, GenerateOptions, Generator, Message, SamplingParams, Tokenizer,
};
use furlong_runtime::{KvFormat, LoadOptions, Model, WeightsCache};
use serde_json::Value;

/// The tiny model with random weights, its tokenizer without the regular expression that boards don't have.
fn model(folder: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-chat");
    let to = folder.join("tiny-chat");
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    let path = to.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["pre_tokenizer"]["use_regex"] = false.into();
    fs::write(&path, tokenizer.to_string()).unwrap();
    to
}

fn plan(model: &Path, options: &[&str]) -> Output {
    let model = model.to_str().unwrap();
    furlong(&[&["plan", model], options].concat())
}

fn furlong(arguments: &[&str]) -> Output {
    let runner = std::env::var("FURLONG_RUNNER").unwrap_or_default();
    let mut words = runner
        .split_whitespace()
        .chain([env!("CARGO_BIN_EXE_furlong")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_board_answers_two_hundred_prompts_as_linux_does() {
    let folder = tempfile::tempdir().unwrap();
    let model_folder = model(folder.path());
    let file = folder.path().join("tiny.plan");
    let out = file.to_str().unwrap();
    let output = plan(
        &model_folder,
        &["--context", "160", "--kv", "q8", "--out", out, "--json"],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes = fs::read(&file).unwrap();
    assert_eq!(json(&output)["flash_bytes"], bytes.len());
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(whole);
    }
    // SAFETY: words are bytes, and there are at least so many.
    let image = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), bytes.len()) };
    let plan = Plan::check(image).unwrap();
    let mut arena = vec![0; plan.arena_bytes()];
    let mut board = Session::new(plan, &mut arena).unwrap();

    let options = LoadOptions {
        kv: KvFormat::Q8,
        context: Some(160),
        weights_cache: WeightsCache::Off,
        ..LoadOptions::default()
    };
    let model = Model::load(&model_folder, &options).unwrap();
    let tokenizer = Tokenizer::load(&model_folder).unwrap();
    let template = ChatTemplate::load(&model_folder).unwrap().unwrap();
    let mut linux = Generator::new(model.session().unwrap(), &tokenizer);
    let greedy = SamplingParams::GREEDY;
    let warm = SamplingParams {
        temperature: 0.8,
        top_k: 20,
        top_p: 0.9,
        repetition_penalty: 1.1,
        ..greedy
    };
    let parts = [
        "Turn",
        "the",
        "heating",
        "off",
        "in",
        "Zürich",
        "42",
        "<|im_end|>",
        "?",
    ];
    for number in 0..200usize {
        let prompt: Vec<&str> = (0..1 + number % 7)
            .map(|i| parts[(number * 5 + i * i) % parts.len()])
            .collect();
        let prompt = prompt.join(" ");
        let seed = number as u64;
        let sampling = if number % 2 == 0 {
            greedy
        } else {
            SamplingParams { seed, ..warm }
        };
        let text = template
            .render(&[Message::new("user", &prompt)], true, SystemTime::now())
            .unwrap();
        let options = GenerateOptions {
            max_tokens: 20,
            sampling,
            ..GenerateOptions::default()
        };
        let tokens = tokenizer.encode(&text, false).unwrap();
        let cancel = AtomicBool::new(false);
        let want = linux
            .generate(&tokens, &options, &cancel, |_| ControlFlow::Continue(()))
            .unwrap();

        let mut answer = Answer::to_text(&mut board, &prompt, 20, Some(sampling)).unwrap();
        let mut got = Vec::new();
        let finish = loop {
            match answer.step(&mut board).unwrap() {
                Event::Worked { .. } => {}
                Event::Token(token) => got.push(token),
                Event::Finished(finish) => break finish,
            }
        };
        assert_eq!(got, want.tokens, "{prompt:?}");
        let same = match want.finish_reason {
            FinishReason::Stop => Finish::Stop,
            FinishReason::Context => Finish::Context,
            _ => Finish::Length,
        };
        assert_eq!(finish, same, "{prompt:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let board = folder.path().join("small.toml");
    let text = include_str!("../../boards/mps2-an386.toml");
    fs::write(
        &board,
        text.replace(
            "ram = { origin = 0x2000_0000, length = 0x0040_0000 }",
            "ram = { origin = 0x2000_0000, length = 0x0000_8000 }",
        ),
    )
    .unwrap();
    let file = folder.path().join("tiny.plan");
    let options = [
        "--board",
        board.to_str().unwrap(),
        "--out",
        file.to_str().unwrap(),
        "--context",
        "200",
    ];
    let output = plan(&model, &[&options[..], &["--json"]].concat());
    assert!(!output.status.success() && !file.exists());
    let said = json(&output);
    assert_eq!(
        (&said["board"]["fits"], &said["isa"]),
        (&false.into(), &"arm-dsp".into())
    );
    // Each way out that it names is one.
    let ways = said["board"]["suggestions"].as_array().unwrap();
    assert!(ways.len() >= 2, "{ways:?}");
    for way in ways {
        let way: Vec<&str> = way["options"].as_str().unwrap().split(' ').collect();
        let known: Vec<&str> = options
            .iter()
            .copied()
            .filter(|o| !matches!(*o, "--context" | "200"))
            .collect();
        let keeps = if way.contains(&"--context") {
            &[][..]
        } else {
            &["--context", "200"]
        };
        let output = plan(&model, &[&known[..], keeps, &way].concat());
        assert!(
            output.status.success(),
            "{way:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::remove_file(&file).unwrap();
    }
    let svg = folder.path().join("memory.svg");
    let output = plan(&model, &["--details", "--svg", svg.to_str().unwrap()]);
    assert!(output.status.success());
    let rows = String::from_utf8(output.stdout).unwrap();
    let picture = fs::read_to_string(svg).unwrap();
    assert!(rows.contains("attend") && picture.matches("<title>").count() > 20);
}

#[test]
fn the_built_in_model_needs_no_name_and_a_firmware_knows_what_it_can_leave_out() {
    let of = |arguments: &[&str]| -> Vec<String> {
        let fixed = ["plan", "--context", "64", "--json"];
        let output = furlong(&[&fixed, arguments].concat());
        assert!(output.status.success());
        serde_json::from_value(json(&output)["features"].clone()).unwrap()
    };
    assert_eq!(
        of(&["--board", "mps2-an386", "--kv", "q8"]),
        ["q8", "kv-q8"]
    );
    assert_eq!(of(&["--isa", "scalar"]), ["q8", "kv-f16", "scalar"]);
}
