//! Puts buffers into one arena, so that none overlaps another that is in use at the same time.
//!
//! Largest first, each at the lowest place that is free while it lives: Y. Pisarchyk and J. Lee, «Efficient Memory
//! Management for Deep Neural Net Inference», 2020, arXiv 2001.03288 («greedy by size»). Ties, and a second try in the
//! order of time, are taken where they come out lower. What no planner can beat is the most that is in use at once.

use furlong_core::plan::ARENA_ALIGN;

/// A buffer to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub bytes: usize,
    pub first: u16,
    pub last: u16,
}

/// Where all of them went.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
    /// The most that is in use at once: what the arena has at least.
    pub lower_bound: usize,
    /// The op at which it is.
    pub peak: u16,
}

/// Places all pieces.
pub(super) fn lay_out(pieces: &[Piece]) -> Layout {
    let by = |key: &dyn Fn(&Piece) -> (u64, u64)| {
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|&index| pieces.get(index).map(key));
        order
    };
    let descending = |bytes: usize| u64::MAX - bytes as u64;
    let length = |piece: &Piece| u64::from(u16::MAX - (piece.last - piece.first));
    let orders = [
        by(&|piece| (descending(piece.bytes), length(piece))),
        by(&|piece| (length(piece), descending(piece.bytes))),
        by(&|piece| (u64::from(piece.first), descending(piece.bytes))),
    ];
    let tried = orders.iter().map(|order| place(pieces, order));
    let (offsets, bytes) = tried.min_by_key(|(_, bytes)| *bytes).unwrap_or_default();
    let (peak, lower_bound) = most_at_once(pieces);
    Layout {
        offsets,
        bytes,
        lower_bound,
        peak,
    }
}

/// Places pieces in an order; returns where they went and how long the arena is.
fn place(pieces: &[Piece], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; pieces.len()];
    let mut placed: Vec<(usize, usize, Piece)> = Vec::new();
    let mut end = 0;
    for &index in order {
        let Some(&piece) = pieces.get(index) else {
            continue;
        };
        let size = piece.bytes.next_multiple_of(ARENA_ALIGN);
        let mut at = 0;
        // Sorted by where they start, so the first gap that is wide enough is the lowest.
        for &(start, stop, other) in &placed {
            if !meet(&piece, &other) || stop <= at {
                continue;
            }
            if start >= at + size {
                break;
            }
            at = stop;
        }
        if let Some(offset) = offsets.get_mut(index) {
            *offset = at;
        }
        let before = placed.partition_point(|&(start, ..)| start <= at);
        placed.insert(before, (at, at + size, piece));
        end = end.max(at + size);
    }
    (offsets, end)
}

fn meet(a: &Piece, b: &Piece) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The op at which most is in use, and how much.
fn most_at_once(pieces: &[Piece]) -> (u16, usize) {
    let in_use = |point: u16| -> usize {
        let alive = pieces
            .iter()
            .filter(|p| (p.first..=p.last).contains(&point));
        alive
            .map(|piece| piece.bytes.next_multiple_of(ARENA_ALIGN))
            .sum()
    };
    // The most is reached where something begins.
    let points = pieces.iter().map(|piece| piece.first);
    let all = points.map(|point| (point, in_use(point)));
    all.max_by_key(|&(point, bytes)| (bytes, u16::MAX - point))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_chains_reach_the_lower_bound() {
        let mut seed = 1u32;
        let mut number = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..200 {
            let count = 1 + number(40) as usize;
            let pieces: Vec<Piece> = (0..count)
                .map(|_| {
                    let first = number(50) as u16;
                    Piece {
                        bytes: number(5000) as usize,
                        first,
                        last: first + number(12) as u16,
                    }
                })
                .collect();
            let layout = lay_out(&pieces);
            let ends = |i: usize| layout.offsets[i] + pieces[i].bytes;
            for a in 0..count {
                assert!(ends(a) <= layout.bytes && layout.offsets[a].is_multiple_of(ARENA_ALIGN));
                for b in 0..a {
                    let apart = ends(a) <= layout.offsets[b] || ends(b) <= layout.offsets[a];
                    assert!(apart || !meet(&pieces[a], &pieces[b]));
                }
            }
            assert!(layout.bytes >= layout.lower_bound);
        }
        // Each value lives until the next one is made, beside one that stays.
        let mut chain: Vec<Piece> = (0..20u16)
            .map(|i| Piece {
                bytes: 1024,
                first: i,
                last: i + 1,
            })
            .collect();
        chain.push(Piece {
            bytes: 4096,
            first: 0,
            last: u16::MAX,
        });
        let layout = lay_out(&chain);
        assert_eq!((layout.bytes, layout.lower_bound), (6144, 6144));
    }
}
