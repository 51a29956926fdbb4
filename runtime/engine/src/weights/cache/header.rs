//! The first page of a cache file: what it was made from.

use std::time::{SystemTime, UNIX_EPOCH};

use furlong_core::IsaKind;
use sha2::{Digest, Sha256};

use crate::import::{FileStamp, SourceFile};
use crate::weights::Contents;

/// Bytes before the first matrix: a page, so that matrices are as aligned in memory as they are among themselves.
pub(super) const HEADER_BYTES: usize = 4096;

/// Bytes of the header that are used.
const USED_BYTES: usize = 16 + 3 * DIGEST_BYTES + DIGEST_BYTES;

const DIGEST_BYTES: usize = 32;

/// What every cache file starts with. The number counts changes of this header and of the kernels' layouts.
const MAGIC: &[u8; 16] = b"furlong packed 2";

/// Files that changed less than this long ago may change again without a new time stamp.
const SETTLED_NS: u64 = 2_000_000_000;

type Sum = [u8; DIGEST_BYTES];

/// Which packed weights are wanted.
#[derive(Debug)]
pub(super) struct Key {
    /// Of the matrices, their order, and how they are packed.
    contents: Sum,
    /// Of what the file system says of the model's files.
    stamps: Sum,
    /// Bytes of the whole cache file.
    pub file_bytes: u64,
}

/// What a cache file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// As in [`Key`].
    contents: Sum,
    /// As in [`Key`]; zeros if the files were too new for their stamps to say anything.
    stamps: Sum,
    /// Of the content of the model's files.
    sources: Sum,
}

/// How far a cache file is from what is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It was made from these files.
    Same,
    /// It is what is wanted if the content of the model's files is still the same: they have been touched.
    IfSourcesAre(Sum),
    /// It is of something else.
    Other,
}

impl Key {
    /// The key of `contents` for `isa`, of the model in `sources`.
    pub(super) fn new(contents: &Contents<'_>, isa: IsaKind, sources: &[SourceFile]) -> Key {
        let mut digest = contents.digest();
        digest.update(isa.name());
        digest.update((contents.bytes as u64).to_le_bytes());
        Key {
            contents: digest.finalize().into(),
            stamps: stamps(sources),
            file_bytes: (contents.bytes as u64).saturating_add(HEADER_BYTES as u64),
        }
    }

    /// Whether a cache file with this header is the one.
    pub(super) fn matches(&self, header: &Header) -> Match {
        if header.contents != self.contents {
            return Match::Other;
        }
        match header.stamps == self.stamps {
            true => Match::Same,
            false => Match::IfSourcesAre(header.sources),
        }
    }

    /// The header of a cache of this key, made from files with the digest `sources`.
    pub(super) fn header(&self, sources: Sum, files: &[SourceFile]) -> Header {
        let stamps = match are_settled(files) {
            true => self.stamps,
            false => Sum::default(),
        };
        Header {
            contents: self.contents,
            stamps,
            sources,
        }
    }
}

impl Header {
    /// As the file has it, without the zeros up to [`HEADER_BYTES`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for sum in [self.contents, self.stamps, self.sources] {
            bytes.extend(sum);
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        bytes
    }

    /// The header at the start of `file`, if there is a whole one.
    pub(super) fn decode(file: &[u8]) -> Option<Header> {
        let sums = file.get(..USED_BYTES)?.strip_prefix(MAGIC)?;
        let (sums, _) = sums.as_chunks::<DIGEST_BYTES>();
        let &[contents, stamps, sources, _] = sums else {
            return None;
        };
        let header = Header {
            contents,
            stamps,
            sources,
        };
        file.starts_with(&header.encode()).then_some(header)
    }
}

/// A digest of the content of a model's files. Their pages are released on the way.
pub(crate) fn sources_digest(files: &[SourceFile]) -> Sum {
    const PIECE: usize = 1 << 20;
    let mut digest = Sha256::new();
    for file in files {
        digest.update((file.bytes.len() as u64).to_le_bytes());
        let mut first = 0;
        while first < file.bytes.len() {
            let end = file.bytes.len().min(first + PIECE);
            if let Some(piece) = file.bytes.slice(first..end) {
                digest.update(&*piece);
                piece.release_pages();
            }
            first = end;
        }
    }
    digest.finalize().into()
}

fn stamps(files: &[SourceFile]) -> Sum {
    let mut digest = Sha256::new();
    for file in files {
        let FileStamp {
            bytes,
            inode,
            modified_ns,
            changed_ns,
        } = file.stamp;
        for number in [bytes, inode, modified_ns, changed_ns] {
            digest.update(number.to_le_bytes());
        }
    }
    digest.finalize().into()
}

/// Whether any later change of the files would give them other time stamps.
fn are_settled(files: &[SourceFile]) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_nanos() as u64);
    files.iter().all(|file| {
        let FileStamp {
            modified_ns,
            changed_ns,
            ..
        } = file.stamp;
        now.abs_diff(modified_ns.max(changed_ns)) > SETTLED_NS
    })
}
