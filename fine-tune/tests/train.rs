//! Training through the program: it learns, it survives being killed, and it says what is wrong.
#![cfg(feature = "train")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The beginning of a command that trains a new model.
const NEW_MODEL: &str =
    "train --architecture config.json --tokenizer tokenizer.json --data data.jsonl";

/// A folder with an architecture, a tokenizer, and commands of which a small model can learn all.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let from =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../targets/linux/tests/data/tiny-chat");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), home.path().join(name)).unwrap();
    }
    let mut data = String::new();
    for (number, word) in (1..).zip(["one", "two", "three", "four", "five"]) {
        for (state, sign) in [("on", '+'), ("off", '-')] {
            let (prompt, answer) = (format!("lamp {word} {state}:"), format!("{sign}{number}"));
            data += &format!("{{\"prompt\":\"{prompt}\",\"completion\":\"{answer}\"}}\n");
        }
    }
    std::fs::write(home.path().join("data.jsonl"), data).unwrap();
    home
}

/// The program with the arguments of a line.
fn tool(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fine-tune"));
    command.current_dir(folder).args(line.split_whitespace());
    command
}

fn run(folder: &Path, line: &str) -> Output {
    tool(folder, line).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn json(folder: &Path, line: &str) -> Value {
    let output = run(folder, &format!("{line} --json"));
    done(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What was said about a command that was refused.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    said(output)
}

/// The lines of a run's metrics without its speed: all that must be the same again.
fn losses(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out.join("training/metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("tokens_per_second");
        line.to_string()
    };
    text.lines().map(line).collect()
}

/// The losses of a run's steps.
fn numbers(out: &Path) -> Vec<f64> {
    let loss = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["loss"].as_f64().unwrap()
    };
    losses(out).iter().map(loss).collect()
}

fn assert_same(found: &[String], expected: &[String]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// Starts the program and waits until it has come so far, or has ended.
fn until(folder: &Path, line: &str, so_far: impl Fn() -> bool) -> Child {
    let mut command = tool(folder, line);
    let quiet = command.stderr(Stdio::null()).stdout(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    let start = Instant::now();
    while !so_far() && child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "nothing in a minute"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    child
}

#[test]
fn a_new_model_learns_is_exported_and_taught_more_with_an_adapter() {
    let home = home();
    let home = home.path();
    let settings = "learning-rate = 0.01\nepochs = 500\nbatch-size = 5\nweight-decay = 0.0\n";
    std::fs::write(home.join("run.toml"), settings).unwrap();
    // Flags win over the file: 300 passes over 10 examples by 5.
    let learn = "--config run.toml --epochs 300 --eval data.jsonl --eval-every 100 --out new";
    let summary = json(home, &format!("{NEW_MODEL} {learn}"));
    let number = |field: &str| summary[field].as_f64().unwrap();
    assert_eq!(summary["steps"], 600);
    assert!(
        number("eval_loss_before") > 4.0 && number("eval_loss") < 0.05,
        "{summary}"
    );
    let plot = std::fs::read_to_string(home.join("new/training/losses.svg")).unwrap();
    assert!(plot.contains("<polyline"));

    let exact = |model: &str, data: &str| {
        let line =
            format!("evaluate --model {model} --data {data} --metrics exact-match --max-tokens 8");
        json(home, &line)["metrics"][0]["score"].as_f64().unwrap()
    };
    json(home, "export --base new --weights f32 --out new-f32");
    assert_eq!(exact("new-f32", "data.jsonl"), 100.0);

    // The other way round, which the model can't do yet.
    let data = std::fs::read_to_string(home.join("data.jsonl")).unwrap();
    let swapped = data
        .replace(":\"+", ":\"*")
        .replace(":\"-", ":\"+")
        .replace(":\"*", ":\"-");
    std::fs::write(home.join("swapped.jsonl"), swapped).unwrap();
    assert_eq!(exact("new-f32", "swapped.jsonl"), 0.0);
    let summary = json(
        home,
        "train --base new --data swapped.jsonl --out adapter --rank 8 --lora-plus 4 --learning-rate 0.01 --epochs 200 \
         --batch-size 2 --packing --max-tokens 32 --accumulate 2",
    );
    assert!(summary["last_loss"].as_f64().unwrap() < 0.1, "{summary}");
    json(
        home,
        "export --base new --adapter adapter --weights f32 --out adapted",
    );
    assert_eq!(exact("adapted", "swapped.jsonl"), 100.0);
    // The same beside the base, which stays what it was.
    assert_eq!(exact("new-f32 --adapter adapter", "swapped.jsonl"), 100.0);
    let both = json(
        home,
        "compare new-f32 new-f32 --adapter-b adapter --data swapped.jsonl --metrics exact-match --max-tokens 8",
    );
    assert_eq!(both["metrics"][0]["outcome"]["difference"], 100.0);
    let card = std::fs::read_to_string(home.join("adapted/model-card.md")).unwrap();
    let digest = summary["data_digest"].as_str().unwrap();
    assert!(
        card.contains("| trained | adapter, 400 steps on 10 examples") && card.contains(digest)
    );
    // Taught on, it begins where it ended, with its own rank and not the usual one.
    let more = json(
        home,
        "train --base new --adapter adapter --data swapped.jsonl --eval swapped.jsonl --out more --max-steps 1",
    );
    assert!(more["eval_loss_before"].as_f64().unwrap() < 0.2, "{more}");
    let config = std::fs::read_to_string(home.join("more/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["r"], 8);
    let whole = "train --base new --adapter adapter --data swapped.jsonl --out whole --method full";
    assert!(refusal(&run(home, whole)).contains("adapter"));
}

#[test]
fn a_run_that_is_killed_again_and_again_gives_the_same_losses() {
    let home = home();
    let train = |out: &str| {
        format!(
            "{NEW_MODEL} --out {out} --max-steps 600 --batch-size 3 --accumulate 2 --checkpoint-every 30 --eval data.jsonl \
             --eval-every 70 --residual-dropout 0.1 --threads 1 --schedule plateau --patience 0"
        )
    };
    done(&run(home.path(), &train("whole")));

    let out = home.path().join("killed");
    let metrics = out.join("training/metrics.jsonl");
    let lines = || std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let resume = train("killed") + " --resume";
    let mut kills = 0;
    for wanted in [1, 80, 200, 350, 500] {
        let mut child = until(home.path(), &resume, || lines() >= wanted);
        kills += usize::from(child.try_wait().unwrap().is_none());
        // SIGKILL: the program can't do anything about it.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 2, "it was done before it could be killed");
    done(&run(home.path(), &resume));
    assert_same(&losses(&out), &losses(&home.path().join("whole")));
    let weights = |out: &str| std::fs::read(home.path().join(out).join("model.safetensors"));
    assert!(weights("killed").unwrap() == weights("whole").unwrap());
    let checkpoints = std::fs::read_dir(out.join("training/checkpoints")).unwrap();
    assert!(checkpoints.count() <= 3, "two and the best are kept");

    // With other data, another base or another setting it would be another run.
    let refused = |change: &str, named: &str| {
        let said = refusal(&run(
            home.path(),
            &format!("train --resume --out killed {change}"),
        ));
        assert!(said.contains(named), "{said}");
    };
    refused("--batch-size 4", "batch-size");
    let with = |name: &str, from: &str, to: &str| {
        let path = home.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    with("data.jsonl", "lamp", "lump");
    refused("", "training data");
    with("config.json", "10000.0", "10001.0");
    refused("", "base model");
}

/// A small sentence encoder in `base`, with a tokenizer.
fn sentence_encoder(home: &Path) {
    let base = home.join("base");
    std::fs::create_dir_all(base.join("1_Pooling")).unwrap();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/bert-mean");
    for name in [
        "config.json",
        "model.safetensors",
        "modules.json",
        "1_Pooling/config.json",
    ] {
        std::fs::copy(golden.join(name), base.join(name)).unwrap();
    }
    // Its vocabulary is smaller than the tokenizer's, but single bytes are in it.
    let tokenizer = std::fs::read_to_string(home.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    tokenizer["model"]["merges"] = Value::Array(Vec::new());
    std::fs::write(base.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

#[test]
fn an_encoder_learns_pairs_and_keeps_its_pooling() {
    let home = home();
    let home = home.path();
    sentence_encoder(home);
    let pairs: String = ["ab", "cd", "ef", "gh", "ij", "kl"]
        .iter()
        .map(|word| {
            format!(
                "{{\"anchor\":\"{word}\",\"positive\":\"{}\"}}\n",
                word.to_uppercase()
            )
        })
        .collect();
    std::fs::write(home.join("pairs.jsonl"), pairs + "{\"text\":\"alone\"}\n").unwrap();
    let line = "train --base base --method full --data pairs.jsonl --eval pairs.jsonl --out out --epochs 40 --batch-size 6 \
                --learning-rate 0.003";
    let summary = json(home, line);
    assert_eq!(summary["bad_lines"], 2);
    let number = |field: &str| summary[field].as_f64().unwrap();
    assert!(
        number("eval_loss_before") > 1.0 && number("eval_loss") < 0.2,
        "{summary}"
    );
    // The result is a sentence encoder still: its training can go on, as an adapter.
    let more = "train --base out --data pairs.jsonl --out more --max-steps 2 --rank 2";
    assert!(json(home, more)["first_loss"].as_f64().unwrap() < 0.3);
}

/// A new head beside an adapter, then all weights of the classifier that came of it; what is exported tells the same.
#[test]
fn an_encoder_learns_labels_and_is_a_classifier_then() {
    let home = home();
    let home = home.path();
    sentence_encoder(home);
    let mut lines = String::new();
    for word in ["ab", "cd", "ef", "gh", "ij", "kl"] {
        let upper = word.to_uppercase();
        for (text, label) in [(word, "small"), (&*upper, "large"), ("12", "number")] {
            lines += &format!("{{\"text\":\"{text}\",\"label\":\"{label}\"}}\n");
        }
    }
    std::fs::write(home.join("labels.jsonl"), &lines).unwrap();
    let unusable = "{\"text\":\"x\",\"label\":\"odd\"}\n{\"anchor\":\"a\",\"positive\":\"b\"}\n";
    std::fs::write(home.join("eval.jsonl"), lines.clone() + unusable).unwrap();
    let learn = "--batch-size 6 --learning-rate 0.01 --eval eval.jsonl";
    let summary = json(
        home,
        &format!(
            "train --base base --rank 4 --dora --data labels.jsonl --epochs 12 {learn} --out first"
        ),
    );
    let number = |summary: &Value, field: &str| summary[field].as_f64().unwrap();
    assert_eq!(summary["bad_lines"], 2, "a label that is none, and a pair");
    let (before, after) = (
        number(&summary, "eval_loss_before"),
        number(&summary, "eval_loss"),
    );
    assert!((before - 3f64.ln()).abs() < 0.1 && after < 0.1, "{summary}");
    json(home, "export --base first --weights q8 --out first-q8");
    let measured = json(home, "evaluate --model first-q8 --data labels.jsonl");
    assert_eq!(measured["metrics"][0]["metric"], "accuracy");
    assert_eq!(measured["metrics"][0]["score"], 100.0);
    let card = std::fs::read_to_string(home.join("first-q8/model-card.md")).unwrap();
    let facts = [
        "text-classification",
        "| labels | large, number, small |",
        "furlong classify",
    ];
    assert!(facts.iter().all(|fact| card.contains(fact)), "{card}");
    // What evaluation in the runtime finds is what training found, but for the rounding of 8 bits.
    let line = "evaluate --model first-q8 --data labels.jsonl --metrics perplexity";
    let loss = json(home, line)["metrics"][0]["score"]
        .as_f64()
        .unwrap()
        .ln();
    assert!((loss - after).abs() < 0.02, "{loss} {after}");
    // Its labels are its own now, whatever the data names first.
    let one = "{\"text\":\"12\",\"label\":\"large\"}\n";
    std::fs::write(home.join("one.jsonl"), one).unwrap();
    let more = "train --base first --method full --data one.jsonl --max-steps 30 --learning-rate 0.01 --out more";
    assert!(number(&json(home, more), "first_loss") > 2.0);
    json(home, "export --base more --weights f32 --out more-f32");
    let measured = json(home, "evaluate --model more-f32 --data one.jsonl");
    assert_eq!(measured["metrics"][0]["score"], 100.0);
    std::fs::write(home.join("alike.jsonl"), one).unwrap();
    // The same step in bf16 is nearly the same.
    let one = |options: &str, out: &str| {
        let line =
            format!("train --base first --data labels.jsonl --max-steps 1 --out {out} {options}");
        number(&json(home, &line), "first_loss")
    };
    let (long, short) = (one("", "long"), one("--precision bf16", "short"));
    assert!(
        long != short && (long - short).abs() < 0.02,
        "{long} {short}"
    );
    let alike = "train --base base --method full --data alike.jsonl --out alike";
    assert!(refusal(&run(home, alike)).contains("one label"));
}

#[test]
fn an_interrupted_run_leaves_what_it_learnt_and_goes_on() {
    let home = home();
    let home = home.path();
    let out = home.join("out");
    let begun = || losses_so_far(&out) >= 20;
    let line = format!("{NEW_MODEL} --epochs 100000 --batch-size 5 --out out");
    let mut child = until(home, &line, begun);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let summary = std::fs::read_to_string(out.join("training/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["ended"], "interrupted");
    json(home, "export --base out --weights f32 --out exported");
    let steps = losses_so_far(&out);
    let mut child = until(home, "train --resume --out out", || {
        losses_so_far(&out) > steps
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(losses_so_far(&out) > steps);
}

/// Lines of a run's metrics, complete or not.
fn losses_so_far(out: &Path) -> usize {
    let text = std::fs::read_to_string(out.join("training/metrics.jsonl"));
    text.map_or(0, |text| text.lines().count())
}

#[test]
fn two_programs_never_go_on_with_the_same_run() {
    let home = home();
    let metrics = home.path().join("out/training/metrics.jsonl");
    let endless = format!("{NEW_MODEL} --out out --max-steps 1000000");
    let mut first = until(home.path(), &endless, || metrics.exists());
    let said = refusal(&run(home.path(), "train --resume --out out"));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(said.contains("another program"), "{said}");
}

#[test]
fn what_goes_wrong_is_said_and_the_last_checkpoint_stays() {
    let home = home();
    let home = home.path();
    let lines = [
        r#"{"prompt":"a","completion":"b"}"#,
        "{",
        r#"{"prompt":"a"}"#,
        r#"{"messages":[{"role":"user","content":"q"}]}"#,
    ];
    std::fs::write(home.join("bad.jsonl"), lines.join("\n")).unwrap();
    let output = run(
        home,
        &format!("{NEW_MODEL} --data bad.jsonl --out bad --max-steps 1"),
    );
    done(&output);
    for line in ["line 2", "line 3", "line 4"] {
        assert!(said(&output).contains(line), "{}", said(&output));
    }
    let refused = |line: &str, named: &[&str]| {
        let said = refusal(&run(home, &format!("{NEW_MODEL} {line}")));
        assert!(named.iter().all(|named| said.contains(named)), "{said}");
    };
    refused("--out bad", &["--resume"]);
    refused(
        "--out lost --learning-rate 1e30 --clip-norm 0 --checkpoint-every 1 --warm-up 0",
        &["last good checkpoint", "learning-rate"],
    );
    let checkpoint = home.join("lost/training/checkpoints/step-00000001/state.json");
    assert!(checkpoint.is_file());
    std::fs::write(home.join("wrong.toml"), "learning-rat = 1\n").unwrap();
    refused("--out wrong --config wrong.toml", &["learning-rat"]);
    refused("--out wrong --early-stop 2", &["--eval"]);
    refused("--out wrong --method lora", &["--base"]);
    assert!(!home.join("wrong").exists());
}

/// No file may grow over a limit, as if the disk were full.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let home = home();
    let train = |out: &str| {
        format!("{NEW_MODEL} --out {out} --max-steps 20 --checkpoint-every 5 --threads 1")
    };
    done(&run(home.path(), &train("whole")));
    let weights = home.path().join("whole/model.safetensors");

    // Blocks have 512 bytes: metrics and settings fit, weights don't.
    let blocks = weights.metadata().unwrap().len() / 512 - 8;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let limited = Command::new("sh")
        .current_dir(home.path())
        .args(["-c", &script, env!("CARGO_BIN_EXE_fine-tune")])
        .args(train("full").split_whitespace())
        .output();
    let said = refusal(&limited.unwrap());
    assert!(said.contains("parameters.safetensors"), "{said}");
    let checkpoints = home.path().join("full/training/checkpoints");
    let left = std::fs::read_dir(&checkpoints).unwrap().count();
    assert_eq!(left, 0, "half a checkpoint is none");
    done(&run(home.path(), "train --resume --out full"));
    let losses = |out: &str| losses(&home.path().join(out));
    assert_same(&losses("full"), &losses("whole"));
}

/// On Mesa's software device (Debian: `mesa-vulkan-drivers`), which takes the road of every graphics card.
#[cfg(feature = "gpu")]
#[test]
fn a_vulkan_device_gives_the_losses_of_the_processor() {
    let home = home();
    let train = |device: &str| -> Vec<f64> {
        let line =
            format!("{NEW_MODEL} --out {device} --device {device} --max-steps 20 --batch-size 5");
        let mut command = tool(home.path(), &line);
        command.env("CUBECL_WGPU_DEFAULT_DEVICE", "Cpu");
        done(&command.output().unwrap());
        numbers(&home.path().join(device))
    };
    let (processor, vulkan) = (train("cpu"), train("gpu"));
    assert_eq!(vulkan.len(), 20);
    for (processor, vulkan) in processor.iter().zip(&vulkan) {
        assert!(
            (processor - vulkan).abs() < 1e-3 * processor,
            "{processor} {vulkan}"
        );
    }

    // Vulkan keeps bf16 but doesn't compute in it: better refused than slow.
    let line = format!("{NEW_MODEL} --out bf16 --device gpu --precision bf16 --max-steps 1");
    let mut command = tool(home.path(), &line);
    command.env("CUBECL_WGPU_DEFAULT_DEVICE", "Cpu");
    refusal(&command.output().unwrap());
    assert!(!home.path().join("bf16/model.safetensors").exists());
}

#[test]
fn batches_added_up_or_shared_by_devices_or_threads_are_one_large_batch() {
    let home = home();
    // Examples have unlike numbers of targets, so a mean of means would differ.
    let long = "{\"prompt\":\"x\",\"completion\":\"a much longer answer than the others\"}\n";
    let data = home.path().join("data.jsonl");
    let text = std::fs::read_to_string(&data).unwrap() + &long.repeat(2);
    std::fs::write(data, text).unwrap();
    let train = |out: &str, size: &str| -> Vec<f64> {
        done(&run(
            home.path(),
            &format!("{NEW_MODEL} --out {out} --max-steps 10 --by-length false {size}"),
        ));
        numbers(&home.path().join(out))
    };
    let large = train("large", "--batch-size 12 --threads 1");
    assert_eq!(large.len(), 10);
    let parts = "--batch-size 4 --accumulate 3 --threads 1";
    let shared = format!("{parts} --devices 2");
    let threads = "--batch-size 12 --threads 5";
    for (out, size) in [
        ("parts", parts),
        ("shared", shared.as_str()),
        ("threads", threads),
    ] {
        let other = train(out, size);
        assert_eq!(other.len(), 10);
        for (large, other) in large.iter().zip(&other) {
            assert!(
                (large - other).abs() < 1e-4 * large,
                "{out}: {large} {other}"
            );
        }
    }
}
