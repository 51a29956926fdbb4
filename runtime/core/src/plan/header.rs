//! The first bytes of an image: what it is, where its tables are, and the numbers that hold for all of it.

use super::record::{Reader, Writer};
use super::{BufferId, Part, PlanError};
use crate::IsaKind;
use crate::attention::Q8_POSITIONS;
use crate::sampler::SamplingParams;
use core::ops::Range;

/// What every plan starts with.
pub const MAGIC: [u8; 8] = *b"FURLPLAN";
/// The version of the format that this crate reads and writes.
pub const VERSION: u16 = 2;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 192;
/// Bytes at the start that the checksum doesn't cover, itself among them.
pub(super) const UNCHECKED_BYTES: usize = 16;

/// Stands for no token.
pub const NO_TOKEN: u32 = u32::MAX;

/// What a plan computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PlanKind {
    /// Logits of the next token, with a cache of what was before.
    Decoder,
    /// One output for all tokens, which come at once.
    Encoder,
    /// One output for a matrix of numbers, as frames of a recording are.
    Features,
}

/// How a decoder's cache stores keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CacheFormat {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
    /// Eight bits, with an f32 scale for each 32 numbers, in whole groups of [`Q8_POSITIONS`].
    Q8,
}

impl CacheFormat {
    /// The positions that each head's cache of so many tokens has room for.
    pub fn positions(self, context: u32) -> Option<u32> {
        match self {
            CacheFormat::F16 | CacheFormat::F32 => Some(context),
            CacheFormat::Q8 => context.checked_next_multiple_of(Q8_POSITIONS as u32),
        }
    }
}

/// A table: where it starts in the image, and how many records it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Table {
    /// Offset in the image, in bytes.
    pub at: u32,
    /// Records; bytes for the tokenizer.
    pub count: u32,
}

impl Table {
    /// The bytes of all records of `size` bytes, if they end before 2³².
    pub(super) fn range(self, size: usize) -> Option<Range<usize>> {
        let start = usize::try_from(self.at).ok()?;
        let bytes = usize::try_from(self.count).ok()?.checked_mul(size)?;
        Some(start..start.checked_add(bytes)?)
    }
}

/// The header of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// Bytes of the image.
    pub size: u32,
    /// The instruction set that weights are packed for.
    pub isa: IsaKind,
    /// How the cache stores keys and values.
    pub cache: CacheFormat,
    /// What the plan computes.
    pub kind: PlanKind,
    /// Most tokens that a session holds. With features: the most rows of any buffer.
    pub context: u32,
    /// Most tokens that go through the ops at once.
    pub tile: u32,
    /// How many tokens the model knows.
    pub vocabulary: u32,
    /// Bytes of working memory; it starts at a multiple of [`ARENA_ALIGN`](super::ARENA_ALIGN).
    pub arena_bytes: u32,
    /// The ops, in the order of execution.
    pub ops: Table,
    /// The parts of the arena.
    pub buffers: Table,
    /// The constants in the image.
    pub tensors: Table,
    /// The tokenizer, in bytes; none if there are none.
    pub tokenizer: Table,
    /// The first op that runs only for the last tile of a prompt.
    pub head: u32,
    /// Where the session keeps its tokens, `[context]` words; or the features, floats.
    pub tokens: BufferId,
    /// What the plan computes, one row of floats.
    pub output: BufferId,
    /// Working memory of the sampler; none for encoders.
    pub candidates: Option<BufferId>,
    /// Working memory of the tokenizer; none without one.
    pub text: Option<BufferId>,
    /// Tokens that end an answer; [`NO_TOKEN`] where there are fewer.
    pub ends: [u32; 4],
    /// How tokens are chosen unless the caller says otherwise.
    pub sampling: SamplingParams,
    /// SHA-256 of the model file that the plan was made of.
    pub source: [u8; 32],
}

/// Numbers that stand for instruction sets in a plan. They never change; 2 and 3 stood for `neon-dotprod` and `neon-i8mm` as they were
/// packed before rows shared the bytes of their 4-bit codes.
const ISA_CODES: [(u8, IsaKind); 8] = [
    (0, IsaKind::Scalar),
    (1, IsaKind::Neon),
    (4, IsaKind::Avx2),
    (5, IsaKind::Avx512Vnni),
    (6, IsaKind::ArmDsp),
    (7, IsaKind::Helium),
    (8, IsaKind::NeonDotprod),
    (9, IsaKind::NeonI8mm),
];

impl Header {
    /// The header as it stands in an image whose checksum is `checksum`.
    pub fn encode(&self, checksum: u32) -> [u8; HEADER_BYTES] {
        let isa = ISA_CODES.iter().find(|(_, kind)| *kind == self.isa);
        let sampling = &self.sampling;
        let table =
            |writer: Writer<HEADER_BYTES>, table: Table| writer.u32(table.at).u32(table.count);
        let writer = Writer::new()
            .bytes(&MAGIC)
            .u16(VERSION)
            .u16(HEADER_BYTES as u16)
            .u32(checksum)
            .u32(self.size)
            .u8(isa.map_or(u8::MAX, |(code, _)| *code))
            .u8(match self.cache {
                CacheFormat::F16 => 0,
                CacheFormat::F32 => 1,
                CacheFormat::Q8 => 2,
            })
            .u8(match self.kind {
                PlanKind::Decoder => 0,
                PlanKind::Encoder => 1,
                PlanKind::Features => 2,
            })
            .u8(0)
            .u32(self.context)
            .u32(self.tile)
            .u32(self.vocabulary)
            .u32(self.arena_bytes);
        let tables = [self.ops, self.buffers, self.tensors, self.tokenizer];
        let writer = tables.into_iter().fold(writer, table);
        let writer = writer
            .u32(self.head)
            .u16(self.tokens.0)
            .u16(self.output.0)
            .u16(BufferId::code(self.candidates))
            .u16(BufferId::code(self.text));
        let writer = self.ends.into_iter().fold(writer, Writer::u32);
        writer
            .f32(sampling.temperature)
            .u32(sampling.top_k as u32)
            .f32(sampling.top_p)
            .f32(sampling.min_p)
            .f32(sampling.repetition_penalty)
            .u32(sampling.repetition_window as u32)
            .u64(sampling.seed)
            .bytes(&self.source)
            .finish()
    }

    /// Reads a header, without its checksum. Which numbers fit together is not checked here.
    pub(super) fn decode(image: &[u8]) -> Result<Header, PlanError> {
        let record = image.get(..HEADER_BYTES);
        let mut reader = Reader::new(record.unwrap_or(image));
        if reader.bytes() != MAGIC {
            return Err(PlanError::Magic);
        }
        let version = reader.u16();
        if version != VERSION {
            return Err(PlanError::Version(version));
        }
        if record.is_none() {
            return Err(PlanError::Size {
                wanted: HEADER_BYTES as u32,
                found: image.len() as u32,
            });
        }
        let refuse = PlanError::Part(Part::Header);
        if usize::from(reader.u16()) != HEADER_BYTES {
            return Err(refuse);
        }
        let _checksum = reader.u32();
        let size = reader.u32();
        let code = reader.u8();
        let isa = ISA_CODES.iter().find(|(known, _)| *known == code);
        let (_, isa) = isa.ok_or(refuse)?;
        let cache = match reader.u8() {
            0 => CacheFormat::F16,
            1 => CacheFormat::F32,
            2 => CacheFormat::Q8,
            _ => return Err(refuse),
        };
        let kind = match reader.u8() {
            0 => PlanKind::Decoder,
            1 => PlanKind::Encoder,
            2 => PlanKind::Features,
            _ => return Err(refuse),
        };
        let _reserved = reader.u8();
        let [context, tile, vocabulary, arena_bytes] = [(); 4].map(|()| reader.u32());
        let [ops, buffers, tensors, tokenizer] = [(); 4].map(|()| Table {
            at: reader.u32(),
            count: reader.u32(),
        });
        let head = reader.u32();
        let [tokens, output, candidates, text] = [(); 4].map(|()| reader.u16());
        let ends = [(); 4].map(|()| reader.u32());
        let sampling = SamplingParams {
            temperature: reader.f32(),
            top_k: reader.u32() as usize,
            top_p: reader.f32(),
            min_p: reader.f32(),
            repetition_penalty: reader.f32(),
            repetition_window: reader.u32() as usize,
            seed: reader.u64(),
        };
        Ok(Header {
            size,
            isa: *isa,
            cache,
            kind,
            context,
            tile,
            vocabulary,
            arena_bytes,
            ops,
            buffers,
            tensors,
            tokenizer,
            head,
            tokens: BufferId(tokens),
            output: BufferId(output),
            candidates: BufferId::of(candidates),
            text: BufferId::of(text),
            ends,
            sampling,
            source: reader.bytes(),
        })
    }
}
