//! Bytes of the image or the arena as numbers, where they lie.
//!
//! Plans are little-endian and so are the machines that read them ([`Plan::check`](super::Plan::check) refuses others);
//! every bit pattern is a number of these types. What is left to check is the address and the length.

use crate::sampler::Candidate;
use crate::{Error, Operand, f16};

/// Types of which any bytes are a value.
///
/// # Safety
/// Every bit pattern must be a value, and there may be no padding.
unsafe trait Plain {}

// SAFETY: numbers without padding, of which every bit pattern is one.
unsafe impl Plain for f32 {}
// SAFETY: as above; f16 is a transparent u16.
unsafe impl Plain for f16 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: a u32 and an f32 in C's order: eight bytes, no padding.
unsafe impl Plain for Candidate {}

fn cast<T: Plain>(bytes: &[u8]) -> Result<&[T], Error> {
    // SAFETY: any bytes are a value of `T`.
    match unsafe { bytes.align_to::<T>() } {
        ([], numbers, []) => Ok(numbers),
        _ => Err(Error::Length(Operand::Scratch)),
    }
}

fn cast_mut<T: Plain>(bytes: &mut [u8]) -> Result<&mut [T], Error> {
    // SAFETY: any bytes are a value of `T`, and any `T` is bytes.
    match unsafe { bytes.align_to_mut::<T>() } {
        ([], numbers, []) => Ok(numbers),
        _ => Err(Error::Length(Operand::Scratch)),
    }
}

macro_rules! casts {
    ($($shared:ident, $exclusive:ident: $type:ty;)+) => {
        $(
            #[allow(dead_code, reason = "not every type is read and written")]
            pub(super) fn $shared(bytes: &[u8]) -> Result<&[$type], Error> {
                cast(bytes)
            }

            #[allow(dead_code, reason = "not every type is read and written")]
            pub(super) fn $exclusive(bytes: &mut [u8]) -> Result<&mut [$type], Error> {
                cast_mut(bytes)
            }
        )+
    };
}

casts! {
    floats, floats_mut: f32;
    halves, halves_mut: f16;
    signed, signed_mut: i8;
    words, words_mut: u32;
    candidates, candidates_mut: Candidate;
}
