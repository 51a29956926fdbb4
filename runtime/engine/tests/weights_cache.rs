//! Packed weights in cache files: mapped when they fit, made again when they don't, whatever is in the file.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use furlong_core::{Isa, IsaKind};
use furlong_runtime::{LoadOptions, Model, WeightsCache, pack_weights};

#[path = "../src/decoder_tests/builder.rs"]
#[allow(dead_code, reason = "each test needs a part of it")]
mod builder;
use builder::{Builder, Stored};

/// A folder with a model in it, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, stored: Stored) -> Folder {
        let name = format!("furlong-cache-{name}-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.model(), Builder::decoder(stored)).unwrap();
        folder
    }

    fn model(&self) -> PathBuf {
        self.0.join("model.onnx")
    }

    fn cache(&self) -> WeightsCache {
        WeightsCache::Folder(self.0.join("cache"))
    }

    fn load(&self, cache: WeightsCache) -> Model {
        let options = LoadOptions {
            threads: NonZeroUsize::new(1),
            weights_cache: cache,
            ..LoadOptions::default()
        };
        Model::load(&self.0, &options).unwrap()
    }

    /// Loads through the cache; the logits, and the cache file.
    fn cached(&self) -> (Vec<f32>, PathBuf) {
        let model = self.load(self.cache());
        let file = model.report().weights_file.expect("a cache file");
        (logits(&model), file)
    }

    fn uncached(&self) -> Vec<f32> {
        let model = self.load(WeightsCache::Off);
        assert_eq!(model.report().weights_file, None);
        logits(&model)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn logits(model: &Model) -> Vec<f32> {
    let mut session = model.session().unwrap();
    session.extend(&[3, 1, 4, 1, 5]).unwrap().to_vec()
}

/// Which file it is: one that was made again is another one.
fn identity(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).unwrap().ino()
}

#[test]
fn mapped_weights_give_the_same_logits_and_are_made_once() {
    for stored in [Stored::F32, Stored::Bits(4), Stored::Bits(8)] {
        let folder = Folder::new("once", stored);
        let expected = folder.uncached();
        let (first, file) = folder.cached();
        // Held open, so that its number isn't given to another file.
        let made = (File::open(&file).unwrap(), identity(&file));
        let (second, same) = folder.cached();
        assert_eq!((&first, &second), (&expected, &expected));
        assert_eq!((&same, identity(&same)), (&file, made.1));
    }
}

#[test]
fn damaged_and_foreign_files_are_made_again() {
    let folder = Folder::new("damage", Stored::Bits(4));
    let (expected, file) = folder.cached();
    let good = fs::read(&file).unwrap();
    let mut bad: Vec<Vec<u8>> = vec![
        Vec::new(),
        good[..100].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        vec![0; good.len()],
        fs::read(folder.model()).unwrap(),
    ];
    // Any bit of the header.
    bad.extend((0..144).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    }));
    // Of another model, and for another instruction set.
    let other = Folder::new("other", Stored::Bits(8));
    bad.push(fs::read(other.cached().1).unwrap());
    let isa = Isa::detect().kind();
    let foreign = IsaKind::ALL.into_iter().find(|&kind| kind != isa).unwrap();
    let out = folder.0.join("foreign.packed");
    pack_weights(&folder.0, foreign, NonZeroUsize::MIN, Some(&out)).unwrap();
    bad.push(fs::read(out).unwrap());
    for bytes in bad {
        fs::write(&file, bytes).unwrap();
        assert_eq!(folder.cached().0, expected);
        assert_eq!(fs::read(&file).unwrap().len(), good.len());
    }
    assert!(
        fs::read_dir(folder.0.join("cache")).unwrap().count() == 1,
        "nothing is left behind"
    );
}

#[test]
fn any_weights_are_safe_to_multiply_by() {
    let folder = Folder::new("noise", Stored::Bits(4));
    let (_, file) = folder.cached();
    let mut bytes = fs::read(&file).unwrap();
    for (at, byte) in bytes.iter_mut().enumerate().skip(4096) {
        *byte = (at * 197 % 251) as u8;
    }
    fs::write(&file, bytes).unwrap();
    folder.cached();
}

#[test]
fn a_changed_model_is_packed_again_and_a_touched_one_is_not() {
    let folder = Folder::new("stale", Stored::F32);
    let (before, file) = folder.cached();
    let (made, _open) = (identity(&file), File::open(&file).unwrap());
    let now = std::time::SystemTime::now();
    let touch = |time| {
        File::options()
            .write(true)
            .open(folder.model())
            .unwrap()
            .set_modified(time)
    };
    touch(now + std::time::Duration::from_secs(5)).unwrap();
    assert_eq!(folder.cached().0, before);
    assert_eq!(identity(&file), made, "only touched");

    // One number of the embedding, and the time of the last change set back.
    let modified = fs::metadata(folder.model()).unwrap().modified().unwrap();
    let mut model = fs::read(folder.model()).unwrap();
    let name = b"embedding";
    let at = model
        .windows(name.len())
        .rposition(|part| part == name)
        .unwrap();
    // The high byte of each number holds its sign; flip those of one row.
    (0..64).for_each(|i| model[at + name.len() + 4 + 4 * (3 * 64 + i)] ^= 0x80);
    fs::write(folder.model(), model).unwrap();
    touch(modified).unwrap();
    let (after, _) = folder.cached();
    assert_eq!(after, folder.uncached());
    assert_ne!(after, before);
    assert_ne!(identity(&file), made, "made again");
}

#[test]
fn many_at_once_make_one_file() {
    let folder = Folder::new("many", Stored::Bits(8));
    let expected = folder.uncached();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4).map(|_| scope.spawn(|| folder.cached().0)).collect();
        for load in loads {
            assert_eq!(load.join().unwrap(), expected);
        }
    });
    assert!(
        fs::read_dir(folder.0.join("cache")).unwrap().count() == 1,
        "no drafts are left"
    );
}

#[test]
fn packed_ahead_for_any_instruction_set() {
    let folder = Folder::new("ahead", Stored::Bits(4));
    for kind in IsaKind::ALL {
        let report = pack_weights(&folder.0, kind, NonZeroUsize::MIN, None).unwrap();
        assert_eq!(report.file.parent(), Some(&*folder.0.join(".furlong")));
        let Some(isa) = Isa::new(kind) else { continue };
        let options = LoadOptions {
            isa: Some(isa),
            weights_cache: folder.cache(),
            ..LoadOptions::default()
        };
        let file = Model::load(&folder.0, &options)
            .unwrap()
            .report()
            .weights_file;
        let (found, ahead) = (
            fs::read(file.unwrap()).unwrap(),
            fs::read(&report.file).unwrap(),
        );
        // All but the stamps of the model's file, which count only once it is some seconds old.
        assert!(
            found[..48] == ahead[..48] && found[4096..] == ahead[4096..],
            "{kind:?}"
        );
    }
}

#[test]
fn where_nothing_can_be_written_weights_are_in_memory() {
    let folder = Folder::new("nowhere", Stored::Bits(4));
    let model = folder.load(WeightsCache::Folder(folder.model().join("cache")));
    assert_eq!(model.report().weights_file, None);
    assert_eq!(logits(&model), folder.uncached());
}
