//! A small GGUF file, built here, whole and damaged in every way.

use std::path::Path;

use super::builder::{Builder, array};
use super::*;
use crate::checkpoint::Elements;
use crate::error::Error;

/// A Llama of one layer: two query heads and one key head of four elements, a vocabulary of five.
fn llama() -> Builder {
    let numbers: Vec<Vec<u8>> = [1u32, 2].iter().map(|n| n.to_le_bytes().to_vec()).collect();
    let kinds: Vec<Vec<u8>> = [3i32, 1, 1, 1, 4]
        .iter()
        .map(|n| n.to_le_bytes().to_vec())
        .collect();
    Builder::default()
        .string("general.architecture", "llama")
        .string("general.license", "mit")
        .number("llama.block_count", 1)
        .number("llama.context_length", 16)
        .number("llama.embedding_length", 8)
        .number("llama.feed_forward_length", 32)
        .number("llama.attention.head_count", 2)
        .number("llama.attention.head_count_kv", 1)
        .entry(
            "llama.attention.layer_norm_rms_epsilon",
            6,
            &1e-5f32.to_le_bytes(),
        )
        .entry(
            "nested",
            9,
            &array(9, &[array(4, &numbers), array(4, &numbers)]),
        )
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "smollm")
        .strings(
            "tokenizer.ggml.tokens",
            &["<end>", "a", "b", "ab", "<user>"],
        )
        .entry("tokenizer.ggml.token_type", 9, &array(5, &kinds))
        .strings("tokenizer.ggml.merges", &["a b"])
        .number("tokenizer.ggml.eos_token_id", 0)
        .floats("token_embd.weight", &[8, 5], |i| i as f32)
        .floats("output_norm.weight", &[8], |_| 1.0)
        .floats("blk.0.attn_norm.weight", &[8], |_| 1.0)
        .floats("blk.0.ffn_norm.weight", &[8], |_| 1.0)
        .floats("blk.0.attn_q.weight", &[8, 8], |i| (i / 8) as f32)
        .floats("blk.0.attn_k.weight", &[8, 4], |i| (i / 8) as f32)
        .floats("blk.0.attn_v.weight", &[8, 4], |i| (i / 8) as f32)
        .floats("blk.0.attn_output.weight", &[8, 8], |i| (i / 8) as f32)
        .floats("blk.0.ffn_gate.weight", &[8, 32], |_| 0.5)
        .floats("blk.0.ffn_up.weight", &[8, 32], |_| 0.5)
        .tensor(
            "blk.0.ffn_down.weight",
            &[32, 8],
            8,
            &[[0, 0x3c].as_slice(), &[2; 32]].concat().repeat(8),
        )
}

fn open(bytes: &[u8]) -> crate::error::Result<Checkpoint> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    super::open(&path)
}

#[test]
fn a_model_comes_out_under_hugging_face_names_and_layouts() {
    let checkpoint = open(&llama().build()).unwrap();
    assert_eq!(checkpoint.licence(), Some("mit"));
    let first_column = |name: &str| -> Vec<f32> {
        let tensor = checkpoint.tensor(name).unwrap();
        tensor
            .data
            .iter()
            .step_by(tensor.shape[1])
            .copied()
            .collect()
    };
    // In each head of four rows, rows 0, 2 come first, then 1, 3.
    assert_eq!(
        first_column("model.layers.0.self_attn.q_proj.weight"),
        [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
    );
    assert_eq!(
        first_column("model.layers.0.self_attn.k_proj.weight"),
        [0.0, 2.0, 1.0, 3.0]
    );
    assert_eq!(
        first_column("model.layers.0.self_attn.v_proj.weight"),
        [0.0, 1.0, 2.0, 3.0]
    );
    let down = "model.layers.0.mlp.down_proj.weight";
    assert_eq!(checkpoint.elements(down), Some(Elements::Q8_0));
    assert_eq!(checkpoint.tensor(down).unwrap().data, [2.0; 256]);
    assert!(!checkpoint.has("lm_head.weight"), "tied");

    let sidecars = checkpoint.sidecars();
    let tokenizer: serde_json::Value =
        serde_json::from_str(sidecars.tokenizer.as_deref().unwrap()).unwrap();
    assert_eq!(tokenizer["model"]["vocab"]["ab"], 3);
    assert_eq!(tokenizer["added_tokens"][0]["content"], "<end>");
    assert_eq!(tokenizer["added_tokens"][1]["special"], false);
    assert!(
        sidecars
            .generation_config
            .as_deref()
            .unwrap()
            .contains("\"eos_token_id\": 0")
    );
}

#[test]
fn truncated_files_are_refused() {
    let bytes = llama().build();
    let gguf = parse(&bytes).unwrap();
    let end = gguf
        .tensors
        .values()
        .map(|tensor| tensor.range.end)
        .max()
        .unwrap();
    for length in 0..end {
        assert!(parse(&bytes[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let bytes = llama().build();
    let head = bytes.len() - llama().data.len();
    let path = Path::new("model.gguf");
    for at in 0..head {
        for damage in [0x01, 0x10, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= damage;
            if let Ok((.., architecture, _, stored)) = read(path, &damaged) {
                assert!(architecture.tensors().len() < 1 << 20);
                assert!(
                    stored
                        .values()
                        .all(|tensor| tensor.range.end <= damaged.len())
                );
            }
        }
    }
}

#[test]
fn what_can_not_be_is_refused() {
    let huge = u64::MAX.to_le_bytes();
    let mut tensors = llama().build();
    tensors[8..16].copy_from_slice(&huge);
    let mut entries = llama().build();
    entries[16..24].copy_from_slice(&huge);
    let mut many_strings = 8u32.to_le_bytes().to_vec();
    many_strings.extend((1u64 << 60).to_le_bytes());
    let deep = (0..9).fold(array(4, &[]), |inner, _| array(9, &[inner]));
    let cases = [
        ("tensors", tensors),
        ("entries", entries),
        (
            "length of a text",
            Builder::default().entry("k", 8, &huge).build(),
        ),
        (
            "length of an array",
            Builder::default().entry("k", 9, &many_strings).build(),
        ),
        ("nesting", Builder::default().entry("k", 9, &deep).build()),
        (
            "key twice",
            Builder::default().number("k", 1).number("k", 1).build(),
        ),
        ("kind", Builder::default().entry("k", 13, &[]).build()),
        (
            "alignment",
            Builder::default().number("general.alignment", 24).build(),
        ),
        (
            "tensor twice",
            llama().floats("output_norm.weight", &[8], |_| 1.0).build(),
        ),
        (
            "dimensions",
            Builder::default().tensor("t", &[1; 5], 0, &[0; 4]).build(),
        ),
        (
            "size",
            Builder::default()
                .tensor("t", &[1 << 40, 1 << 40], 0, &[])
                .build(),
        ),
        (
            "blocks",
            Builder::default().tensor("t", &[33], 8, &[0; 34]).build(),
        ),
        (
            "data",
            Builder::default()
                .tensor("t", &[1 << 20], 0, &[0; 64])
                .build(),
        ),
    ];
    for (what, bytes) in cases {
        assert!(parse(&bytes).is_err(), "{what}");
    }
}

#[test]
fn other_models_are_refused_with_the_field_that_says_so() {
    let cases = [
        (llama().number("llama.expert_count", 8), "num_local_experts"),
        (
            llama().number("llama.attention.sliding_window", 4),
            "sliding_window",
        ),
        (
            llama().string("llama.rope.scaling.type", "longrope"),
            "llama.rope.scaling.type",
        ),
        (llama().number("split.count", 2), "split.count"),
        (
            llama().floats("blk.0.ffn_gate_inp.weight", &[8], |_| 1.0),
            "tensor blk.0.ffn_gate_inp.weight",
        ),
        (
            llama().floats("blk.0.attn_v.bias", &[4], |_| 1.0),
            "tensor model.layers.0.self_attn.v_proj.bias",
        ),
        (
            Builder::default().string("general.architecture", "mamba"),
            "general.architecture",
        ),
    ];
    for (builder, wanted) in cases {
        match open(&builder.build()) {
            Err(Error::Unsupported { field, .. }) => assert_eq!(field, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    assert!(matches!(
        open(
            &llama()
                .floats("blk.1.attn_norm.weight", &[8], |_| 1.0)
                .build()
        ),
        Err(Error::Unsupported { .. })
    ));
    let short = llama()
        .number("llama.vocab_size", 5)
        .number("tokenizer.ggml.bos_token_id", 99);
    assert!(matches!(open(&short.build()), Err(Error::Malformed { .. })));
}
