use super::*;

fn read(bytes: &[u8]) -> Result<DataFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, bytes).unwrap();
    DataFile::read(&path)
}

#[test]
fn every_kind_of_line_is_read_and_every_bad_one_named() {
    let deep = format!(
        "{{\"text\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(3 * MAX_LINE_BYTES));
    let lines: Vec<&[u8]> = vec![
        b"\xef\xbb\xbf{\"prompt\":\"a\",\"completion\":\"b\"}\r",
        b"",
        br#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"id":"m"}"#,
        br#"{"text":"t","label":3}"#,
        br#"{"text":"t"}"#,
        b"{",
        b"[]",
        b"{}",
        br#"{"prompt":"a"}"#,
        br#"{"prompt":1,"completion":"b"}"#,
        br#"{"messages":[]}"#,
        br#"{"messages":[{"role":"user"}]}"#,
        br#"{"text":"a","prompt":"b","completion":"c"}"#,
        br#"{"text":"  "}"#,
        br#"{"text":"u","id":"m"}"#,
        br#"{"text":"u","id":{}}"#,
        b"{\"text\":\"\xff\"}",
        deep.as_bytes(),
        long.as_bytes(),
        br#"{"text":"last"}"#,
        br#"{"anchor":"one","positive":"two"}"#,
        br#"{"anchor":"one"}"#,
    ];
    let file = read(&lines.join(&b'\n')).unwrap();
    let numbers: Vec<usize> = file.examples.iter().map(|example| example.line).collect();
    assert_eq!(numbers, [1, 3, 4, 5, 20, 21]);
    let mut bad: Vec<usize> = file.bad.iter().map(|bad| bad.line).collect();
    bad.sort_unstable();
    assert_eq!(bad, (6..=19).chain([22]).collect::<Vec<_>>());
    assert_eq!(file.bad_count, bad.len());
    let outputs: Vec<_> = file.examples.iter().map(|e| e.content.output()).collect();
    assert_eq!(outputs, [Some("b"), Some("a"), Some("3"), None, None, None]);
    assert_eq!(file.examples[5].content.whole(), "one\ntwo");
    assert_eq!(file.examples[1].content.input(), "q");
    assert_eq!(file.examples[1].id, "m");
}

#[test]
fn a_digest_is_that_of_the_file() {
    let text = b"{\"text\":\"a\"}\n\n{\"text\":\"b\"}";
    let expected = crate::checkpoint::digest([text.as_slice()]);
    assert_eq!(read(text).unwrap().digest, expected);
    let long = [
        vec![b'x'; 2 * MAX_LINE_BYTES],
        b"\n{\"text\":\"b\"}".to_vec(),
    ]
    .concat();
    let expected = crate::checkpoint::digest([long.as_slice()]);
    assert_eq!(read(&long).unwrap().digest, expected);
}

#[test]
fn a_file_without_a_good_line_is_an_error() {
    read(b"").unwrap_err();
    read(b"\n\n").unwrap_err();
    read(b"{\n").unwrap_err();
}
