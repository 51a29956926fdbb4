use std::time::{SystemTime, UNIX_EPOCH};

use furlong_core::IsaKind;

use super::header::{Header, Key, Match, sources_digest};
use crate::import::{FileStamp, SourceFile, TensorBytes};
use crate::weights::Contents;

fn source(stamp: FileStamp) -> [SourceFile; 1] {
    let bytes = TensorBytes::owned(vec![7; 100]);
    [SourceFile { bytes, stamp }]
}

#[test]
fn file_stamps_count_only_when_a_change_would_show_in_them() {
    let contents = Contents::of(&[], None, IsaKind::Neon).unwrap();
    let key = |files: &[SourceFile]| Key::new(&contents, IsaKind::Neon, files);
    let old = FileStamp {
        bytes: 100,
        inode: 5,
        modified_ns: 1_000_000_000,
        changed_ns: 2_000_000_000,
    };
    let files = source(old);
    let sources = sources_digest(&files);
    let header = key(&files).header(sources, &files);
    assert_eq!(Header::decode(&header.encode()), Some(header));
    assert_eq!(key(&files).matches(&header), Match::Same);
    let others = [
        FileStamp { bytes: 101, ..old },
        FileStamp { inode: 6, ..old },
        FileStamp {
            modified_ns: 1,
            ..old
        },
        FileStamp {
            changed_ns: 1,
            ..old
        },
    ];
    for other in others {
        let touched = key(&source(other));
        assert_eq!(touched.matches(&header), Match::IfSourcesAre(sources));
    }
    let another = Key::new(&contents, IsaKind::NeonDotprod, &files);
    assert_eq!(another.matches(&header), Match::Other);

    // A file of this moment may change once more without a new time.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let files = source(FileStamp {
        changed_ns: now.as_nanos() as u64,
        ..old
    });
    let header = key(&files).header(sources, &files);
    assert_eq!(key(&files).matches(&header), Match::IfSourcesAre(sources));
}
