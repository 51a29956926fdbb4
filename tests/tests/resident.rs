//! How much memory a real model takes from loading to running: a test of its own, because the most that a process
//! ever held is never forgotten.

use std::num::NonZeroUsize;

use furlong::machine::clock::peak_rss_bytes;
use furlong_runtime::{LoadOptions, Model, WeightsCache};
use furlong_tests::reference::models_folder;

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn packing_and_running_q4_takes_less_than_twice_its_weights() {
    let cache = tempfile::tempdir().expect("a folder");
    let options = LoadOptions {
        threads: NonZeroUsize::new(1),
        context: Some(512),
        weights_cache: WeightsCache::Folder(cache.path().to_owned()),
        ..LoadOptions::default()
    };
    let folder = models_folder().join("smollm2-q4");
    let mut weights = 0;
    // Packed into the cache first, then mapped from it.
    for _ in 0..2 {
        let model = Model::load(&folder, &options).expect("the export loads");
        assert!(model.report().weights_file.is_some());
        weights = model.weights_bytes() as u64;
        let mut session = model.session().expect("a decoder");
        session.extend(&[1; 128]).expect("room for the prompt");
        session.extend(&[1]).expect("room for one more");
    }
    let peak = peak_rss_bytes().expect("/proc says");
    println!("{peak} bytes at most, {weights} of weights");
    assert!(peak < 2 * weights, "{peak} bytes for {weights} of weights");
}
