//! Texts that are nearly the same, found without comparing each with each.
//!
//! A text is the set of its shingles, here runs of five characters, and the share of smallest hashes that two sets have in
//! common estimates their Jaccard similarity: A. Broder, «On the Resemblance and Containment of Documents», SEQUENCES 1997.
//! Only 16 bits of each hash are kept: P. Li, A. C. König, «b-Bit Minwise Hashing», WWW 2010. Texts that agree in a whole band
//! of them are looked at: P. Indyk, R. Motwani, «Approximate Nearest Neighbors», STOC 1998.

use std::collections::HashMap;

use crate::comparison::Random;

/// Characters of a shingle.
const SHINGLE: usize = 5;
/// Bands, and hashes in each: two texts of similarity 0.8 share a band with probability 0.998, of 0.5 with 0.27.
const BANDS: usize = 20;
const ROWS: usize = 6;
const HASHES: usize = BANDS * ROWS;

/// From this similarity on, texts count as nearly the same.
pub(super) const SIMILAR: f64 = 0.8;

/// A text in lower case, its letters and digits only, one space between words.
pub(super) fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

/// A hash of bytes, the same on every machine (FNV-1a, its bits mixed).
pub(super) fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// The smallest hashes of a text's shingles.
#[derive(Debug, Clone)]
pub(super) struct Signature([u16; HASHES]);

/// Makes signatures that can be compared with each other.
#[derive(Debug)]
pub(super) struct Signer(Vec<(u64, u64)>);

impl Signer {
    pub(super) fn new() -> Signer {
        let mut random = Random::new(0, 0);
        Signer(
            (0..HASHES)
                .map(|_| (random.next() | 1, random.next()))
                .collect(),
        )
    }

    /// The signature of a normalised text.
    pub(super) fn sign(&self, text: &str) -> Signature {
        let characters: Vec<char> = text.chars().collect();
        let mut least = [u64::MAX; HASHES];
        let mut add = |shingle: &[char]| {
            let shingle = hash(shingle.iter().flat_map(|&c| u32::from(c).to_le_bytes()));
            for (least, &(factor, offset)) in least.iter_mut().zip(&self.0) {
                *least = (*least).min(shingle.wrapping_mul(factor).wrapping_add(offset));
            }
        };
        if characters.len() < SHINGLE {
            add(&characters);
        } else {
            characters.windows(SHINGLE).for_each(&mut add);
        }
        // The high bits of a minimum are small; the low ones are as good as random.
        Signature(least.map(|hash| (hash ^ (hash >> 17)) as u16))
    }
}

impl Signature {
    /// The estimated similarity, 0 to 1.
    pub(super) fn similarity(&self, other: &Signature) -> f64 {
        let same = self
            .0
            .iter()
            .zip(&other.0)
            .filter(|(one, other)| one == other)
            .count();
        same as f64 / HASHES as f64
    }

    fn bands(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let bands = self
            .0
            .chunks(ROWS)
            .map(|band| hash(band.iter().flat_map(|h| h.to_le_bytes())));
        bands.enumerate()
    }
}

/// Texts that others can be looked up among.
#[derive(Debug, Default)]
pub(super) struct Index {
    signatures: Vec<(usize, Signature)>,
    /// The first text of each band: one is enough, since all in a band are much alike, and it bounds the work.
    bands: HashMap<(usize, u64), usize>,
}

impl Index {
    /// The most similar text that was put in, as the number given to it and the similarity, if it is similar enough.
    pub(super) fn nearest(&self, signature: &Signature) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64)> = None;
        for band in signature.bands() {
            let Some((number, known)) = self.bands.get(&band).and_then(|&i| self.signatures.get(i))
            else {
                continue;
            };
            let similarity = signature.similarity(known);
            if similarity >= SIMILAR && best.is_none_or(|(_, most)| similarity > most) {
                best = Some((*number, similarity));
            }
        }
        best
    }

    /// Puts a text in, under a number.
    pub(super) fn insert(&mut self, number: usize, signature: Signature) {
        let index = self.signatures.len();
        for band in signature.bands() {
            self.bands.entry(band).or_insert(index);
        }
        self.signatures.push((number, signature));
    }
}
