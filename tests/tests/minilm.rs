//! all-MiniLM-L6-v2, a real sentence encoder: our f32 export, and what ONNX Runtime's dynamic quantiser makes of
//! it, each against ONNX Runtime on the same file.
//!
//! `cargo xtask test` makes what these tests read and sets `FURLONG_MODELS` to the folder that holds it:
//! `minilm-f32`, and `references/minilm/` as `tests/parity/encoder_reference.py` writes it.

use furlong_core::Isa;
use furlong_runtime::{Array, Graph, GraphOptions, LoadOptions, Model};
use furlong_tests::plan::Image;
use furlong_tests::reference::{Reference, cosine, models_folder};

/// Sentences of the reference.
const SENTENCES: usize = 5;

fn reference() -> Reference {
    Reference::open(&models_folder().join("references/minilm/reference.safetensors"))
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn f32_embeddings_are_those_of_onnx_runtime() {
    let model = Model::load(&models_folder().join("minilm-f32"), &LoadOptions::default())
        .expect("the export loads");
    let reference = reference();
    let sentences: Vec<Vec<u32>> = (0..SENTENCES)
        .map(|index| reference.tokens(&format!("ids.{index}")))
        .collect();
    let embeddings = model.encode(&sentences).expect("an encoder");
    for (index, embedding) in embeddings.iter().enumerate() {
        let cosine = cosine(embedding, &reference.floats(&format!("f32.{index}")));
        println!("sentence {index}: cosine {cosine:.7}");
        assert!(cosine >= 0.9999, "sentence {index}: cosine {cosine}");
    }
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn eight_bits_stay_nearer_to_f32_than_onnx_runtimes() {
    let model = Model::load(&models_folder().join("minilm-q8"), &LoadOptions::default())
        .expect("the export loads");
    let linears = model.report().linears;
    assert!(
        linears
            .iter()
            .all(|linear| linear.kernel.starts_with("i8-")),
        "all linear layers are multiplied by rows"
    );
    let reference = reference();
    for index in 0..SENTENCES {
        let sentence = reference.tokens(&format!("ids.{index}"));
        let ours = model.encode(&[sentence]).expect("an encoder");
        let f32 = reference.floats(&format!("f32.{index}"));
        let theirs = cosine(&reference.floats(&format!("int8.{index}")), &f32);
        let ours = cosine(&ours[0], &f32);
        println!("sentence {index}: cosine {ours:.5} from f32, ONNX Runtime's int8 {theirs:.5}");
        assert!(ours >= 0.997 && ours > theirs, "sentence {index}: {ours}");
    }
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn a_dynamically_quantised_file_runs_as_it_comes() {
    let file = models_folder().join("references/minilm/int8.onnx");
    let graph = Graph::load(&file, &GraphOptions::default()).expect("the quantiser's file loads");
    let reference = reference();
    for index in 0..SENTENCES {
        let ids: Vec<i64> = reference
            .tokens(&format!("ids.{index}"))
            .iter()
            .map(|&id| i64::from(id))
            .collect();
        let row = |values: Vec<i64>| Array::new(vec![1, ids.len()], values).expect("one row");
        let inputs = vec![
            ("input_ids".to_owned(), row(ids.clone())),
            ("attention_mask".to_owned(), row(vec![1; ids.len()])),
            ("token_type_ids".to_owned(), row(vec![0; ids.len()])),
        ];
        let outputs = graph.run(inputs).expect("it runs");
        let (_, embedding) = outputs
            .iter()
            .find(|(name, _)| name == "sentence_embedding")
            .expect("the export's output");
        let cosine = cosine(
            embedding.as_f32().expect("f32"),
            &reference.floats(&format!("int8.{index}")),
        );
        println!("sentence {index}: cosine {cosine:.5} from ONNX Runtime's int8");
        // The same whole-number sums; now and then an activation lies so close to a half that it rounds otherwise.
        assert!(cosine >= 0.9995, "sentence {index}: cosine {cosine}");
    }
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn a_plan_gives_the_embeddings_of_the_model() {
    let folder = models_folder().join("minilm-q8");
    let model = Model::load(&folder, &LoadOptions::default()).expect("the export loads");
    let reference = reference();
    let sentences: Vec<Vec<u32>> = (0..SENTENCES)
        .map(|index| reference.tokens(&format!("ids.{index}")))
        .collect();
    let graph = model.encode(&sentences).expect("an encoder");
    let plan = Image::of(&folder, Isa::detect().kind(), 64).encode(&sentences);
    for (index, (plan, graph)) in plan.iter().zip(&graph).enumerate() {
        let apart = plan.iter().zip(graph).map(|(a, b)| (a - b).abs());
        let worst = apart.fold(0.0, f32::max);
        println!("sentence {index}: {worst:.1e} from the session");
        assert!(worst <= 1e-6, "sentence {index}: {worst}");
    }
}
