//! Slices cut into pieces of equal length, the rest left out.
//!
//! The library's `chunks_exact` panics for a length of zero. Where the compiler can't see that there is none (code made small for a
//! microcontroller is not inlined), that panic is linked in; this gives no pieces then.

use core::iter::from_fn;
use core::mem::take;

/// Pieces of `len` items.
pub(crate) fn pieces<T>(items: &[T], len: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    from_fn(move || {
        let (piece, after) = rest.split_at_checked(len).filter(|_| len > 0)?;
        rest = after;
        Some(piece)
    })
}

/// Pieces of `len` items that can be written.
pub(crate) fn pieces_mut<T>(items: &mut [T], len: usize) -> impl Iterator<Item = &mut [T]> {
    let mut rest = items;
    from_fn(move || {
        let (piece, after) = take(&mut rest)
            .split_at_mut_checked(len)
            .filter(|_| len > 0)?;
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn pieces_are_those_of_the_library() {
        let mut items: Vec<u8> = (0..23).collect();
        for len in 1..30 {
            let wanted: Vec<Vec<u8>> = items.chunks_exact(len).map(<[u8]>::to_vec).collect();
            assert!(pieces(&items, len).eq(&wanted), "{len}");
            assert!(pieces_mut(&mut items, len).eq(&wanted), "{len}");
        }
        assert_eq!(
            pieces(&items, 0).count() + pieces_mut(&mut items, 0).count(),
            0
        );
    }
}
