//! A program as boot loaders want it: plain bytes, or UF2 (github.com/microsoft/uf2) for those that show a drive.

use anyhow::{Context, Result, bail};

use std::fs;
use std::path::Path;

/// What a UF2 block carries of its 512 bytes.
const PAYLOAD: usize = 256;
/// Nothing that is flashed here is as long; a longer image means that segments lie in different memories.
const LONGEST: u64 = 64 << 20;

/// Writes a program's loaded bytes to `out`.
///
/// # Errors
/// When the program isn't one that can be flashed, or the file can't be written.
pub fn write(program: &Path, uf2_family: Option<u32>, out: &Path) -> Result<()> {
    let elf = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let (start, bytes) = flat(&elf).with_context(|| program.display().to_string())?;
    let image = match uf2_family {
        None => bytes,
        Some(family) => {
            let start = u32::try_from(start).context("UF2 has addresses of 32 bits")?;
            uf2(start, &bytes, family)
        }
    };
    fs::write(out, image).with_context(|| format!("writing {}", out.display()))
}

/// The loaded segments in one piece, gaps zeroed, and where it starts.
fn flat(elf: &[u8]) -> Result<(u64, Vec<u8>)> {
    let segments = load_segments(elf)?;
    let (Some(start), Some(end)) = (
        segments.iter().map(|(address, _)| *address).min(),
        segments
            .iter()
            .map(|(address, bytes)| address + bytes.len() as u64)
            .max(),
    ) else {
        bail!("holds nothing to load");
    };
    if end - start > LONGEST {
        bail!("its parts lie too far apart ({start:#x} to {end:#x}) for one image");
    }
    let mut image = vec![0; (end - start) as usize];
    for (address, bytes) in segments {
        let from = (address - start) as usize;
        image[from..from + bytes.len()].copy_from_slice(bytes);
    }
    Ok((start, image))
}

/// Where each segment is loaded (not where it is used: `.data` is copied to RAM by the start code), and its bytes.
pub fn load_segments(elf: &[u8]) -> Result<Vec<(u64, &[u8])>> {
    use object::read::elf::{ElfFile32, ElfFile64, ProgramHeader};
    fn of<'d, E: object::read::elf::FileHeader<Endian = object::Endianness>>(
        file: &object::read::elf::ElfFile<'d, E>,
    ) -> Result<Vec<(u64, &'d [u8])>> {
        file.elf_program_headers()
            .iter()
            .filter(|header| header.p_type(file.endian()) == object::elf::PT_LOAD)
            .map(|header| {
                let bytes = header
                    .data(file.endian(), file.data())
                    .map_err(|()| anyhow::anyhow!("a segment lies outside the file"))?;
                Ok((header.p_paddr(file.endian()).into(), bytes))
            })
            .filter(|segment| !matches!(segment, Ok((_, []))))
            .collect()
    }
    match object::FileKind::parse(elf)? {
        object::FileKind::Elf32 => of(&ElfFile32::parse(elf)?),
        object::FileKind::Elf64 => of(&ElfFile64::parse(elf)?),
        other => bail!("a program is wanted, this is {other:?}"),
    }
}

fn uf2(start: u32, bytes: &[u8], family: u32) -> Vec<u8> {
    const FAMILY_PRESENT: u32 = 0x2000;
    let blocks = bytes.chunks(PAYLOAD);
    let total = blocks.len() as u32;
    let mut image = Vec::with_capacity(bytes.len() * 2);
    for (number, chunk) in (0u32..).zip(blocks) {
        let header = [
            0x0a32_4655,
            0x9e5d_5157,
            FAMILY_PRESENT,
            start + number * PAYLOAD as u32,
            PAYLOAD as u32,
            number,
            total,
            family,
        ];
        let block = image.len();
        image.extend(header.iter().flat_map(|word: &u32| word.to_le_bytes()));
        image.extend_from_slice(chunk);
        image.resize(block + 508, 0);
        image.extend(0x0ab1_6f30u32.to_le_bytes());
    }
    image
}

#[cfg(test)]
mod tests {
    use super::uf2;

    #[test]
    fn uf2_blocks_carry_all_bytes_in_order() {
        let bytes: Vec<u8> = (0..600u32).map(|value| value as u8).collect();
        let image = uf2(0x1000_0000, &bytes, 0xe48b_ff59);
        assert_eq!(image.len(), 3 * 512);
        let word = |block: usize, at: usize| {
            let at = block * 512 + at;
            u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes"))
        };
        let mut carried: Vec<u8> = Vec::new();
        for block in 0..3 {
            assert_eq!((word(block, 0), word(block, 4)), (0x0a32_4655, 0x9e5d_5157));
            assert_eq!(word(block, 12), 0x1000_0000 + 256 * block as u32);
            assert_eq!((word(block, 20), word(block, 24)), (block as u32, 3));
            assert_eq!(
                (word(block, 28), word(block, 508)),
                (0xe48b_ff59, 0x0ab1_6f30)
            );
            carried.extend(&image[block * 512 + 32..][..256]);
        }
        assert_eq!(&carried[..600], bytes);
        assert_eq!(carried[600..], [0; 168]);
    }
}
