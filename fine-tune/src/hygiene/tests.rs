use super::*;

fn data(lines: &[String]) -> DataFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    DataFile::read(&path).unwrap()
}

fn pair(prompt: &str, completion: &str) -> String {
    serde_json::json!({ "prompt": prompt, "completion": completion }).to_string()
}

const ROOMS: [&str; 8] = [
    "kitchen", "study", "hall", "attic", "cellar", "garage", "bedroom", "garden",
];
const VERBS: [&str; 6] = [
    "turn on",
    "dim",
    "switch off",
    "set to forty percent",
    "brighten",
    "put out",
];

fn commands() -> Vec<String> {
    let all = ROOMS
        .iter()
        .flat_map(|room| VERBS.map(|verb| pair(&format!("{verb} the lamp in the {room}"), verb)));
    all.collect()
}

#[test]
fn repetitions_and_leaks_are_found() {
    let story = "once upon a time there was a small engine that pulled a very long train over the high mountains";
    let mut lines = vec![
        pair(story, "a"),
        pair("Turn ON the light!", "yes"),
        pair("turn on the  light", "Yes."),
        pair("turn on the  light", "no"),
        pair(&format!("{story} today"), "a"),
    ];
    let train = data(&lines);
    let found = Duplicates::of(&train);
    assert_eq!((found.exact, found.near, found.contradictions), (1, 1, 1));
    assert_eq!(
        (found.exact_lines[0].line, found.exact_lines[0].like),
        (3, 2)
    );
    assert_eq!((found.near_lines[0].line, found.near_lines[0].like), (5, 1));

    lines = vec![
        pair("TURN on the light", "yes"),
        pair(story, "another end"),
        pair("what is the capital of france", "paris"),
        pair(&format!("i know that {}", &story[18..]), "x"),
    ];
    let overlap = Overlap::of(&train, &data(&lines));
    assert_eq!((overlap.exact, overlap.same_input), (1, 1));
    assert_eq!(overlap.contained, 2);

    let report = check(&train, Some(&data(&lines)), None, None, 1).unwrap();
    assert!(report.must_fix());
    let clean = data(&commands());
    let other = data(&[pair("what is the capital of france", "paris")]);
    let report = check(&clean, Some(&other), None, None, 1).unwrap();
    assert!(!report.must_fix(), "{:?}", report.findings);
}

#[test]
fn similarity_is_that_of_the_sets() {
    let signer = shingles::Signer::new();
    let words: Vec<String> = (0..400_u64)
        .map(|i| format!("{:x}", shingles::hash(i.to_le_bytes())))
        .collect();
    let (one, other) = (words[..300].join(" "), words[100..].join(" "));
    let set = |text: &str| {
        let characters: Vec<char> = text.chars().collect();
        characters
            .windows(5)
            .map(<[char]>::to_vec)
            .collect::<std::collections::HashSet<_>>()
    };
    let (a, b) = (set(&one), set(&other));
    let exact = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
    let found = signer.sign(&one).similarity(&signer.sign(&other));
    assert!((found - exact).abs() < 0.13, "{found}, not {exact}");
}

#[test]
fn traffic_of_the_same_kind_passes_and_of_another_doesnt() {
    let all = commands();
    let half = |parity: usize| {
        let lines = all
            .iter()
            .enumerate()
            .filter(|(i, _)| (i + i / VERBS.len()) % 2 == parity);
        data(&lines.map(|(_, line)| line.clone()).collect::<Vec<_>>())
    };
    let same = Drift::of(&half(0), &half(1), 3);
    assert!(same.wording.p > 0.05 && same.lengths.p > 0.05, "{same:?}");
    let questions: Vec<String> = ROOMS
        .iter()
        .map(|r| {
            pair(
                &format!("how many windows are there in your {r}, please?"),
                "1",
            )
        })
        .collect();
    let other = Drift::of(&half(0), &data(&questions), 3);
    assert!(
        other.wording.p < 0.01 && other.lengths.p < 0.01,
        "{other:?}"
    );
    assert!(other.wording.value > 2.0 * other.wording.expected);
    assert_eq!(other, Drift::of(&half(0), &data(&questions), 3));
}

#[test]
fn labels_and_lengths_are_counted() {
    let labelled = |label: &str, count: usize| {
        (0..count)
            .map(|i| format!("{{\"text\":\"{label} {i}\",\"label\":\"{label}\"}}"))
            .collect::<Vec<_>>()
    };
    let train = data(&[labelled("a", 30), labelled("b", 3)].concat());
    let test = data(&labelled("c", 20));
    let count = |text: &str| Ok(text.len());
    let counter = TokenCounter {
        count: &count,
        context: Some(5),
    };
    let report = check(&train, Some(&test), None, Some(&counter), 1).unwrap();
    assert_eq!(report.train.labels.as_ref().unwrap().counts["b"], 3);
    assert_eq!(report.train.lengths.input_characters.most, 4);
    // "a 10" and a line end and "a" have six bytes.
    assert_eq!(report.train.lengths.too_long, 20);
    // Labels that training never shows, and lines that are too long in both files.
    let fixes = report
        .findings
        .iter()
        .filter(|finding| finding.weight == Weight::Fix);
    assert_eq!(fixes.count(), 3);
}
