//! Tells text from log frames on one line: see targets/firmware/src/transport/mod.rs.

/// A log frame is far shorter; a longer one is noise.
const LONGEST_FRAME: usize = 64 * 1024;

/// A piece of what came.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text, as far as it has come.
    Text(Vec<u8>),
    /// A whole frame with the zero that ends it.
    Frame(Vec<u8>),
}

/// Cuts a stream into pieces: what follows two or more zeros is a frame, anything else is text.
#[derive(Default)]
pub struct Splitter {
    zeros: usize,
    frame: Option<Vec<u8>>,
}

impl Splitter {
    /// Takes bytes in and gives the pieces that are known by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        for &byte in bytes {
            if byte == 0 {
                if let Some(mut frame) = self.frame.take() {
                    frame.push(0);
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Frame(frame));
                }
                self.zeros += 1;
                continue;
            }
            if self.zeros >= 2 {
                self.frame = Some(Vec::new());
            }
            self.zeros = 0;
            match &mut self.frame {
                Some(frame) if frame.len() < LONGEST_FRAME => frame.push(byte),
                Some(_) => self.frame = None,
                None => text.push(byte),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, Splitter};

    fn split(chunks: &[&[u8]]) -> Vec<Piece> {
        let mut splitter = Splitter::default();
        chunks
            .iter()
            .flat_map(|chunk| splitter.push(chunk))
            .collect()
    }

    #[test]
    fn frames_come_whole_whatever_the_chunks() {
        let stream = b"{\"a\"\0\0\x01\x02\0\0\0\0\x03\0:1}\n";
        let whole = vec![
            Piece::Text(b"{\"a\"".to_vec()),
            Piece::Frame(vec![1, 2, 0]),
            Piece::Frame(vec![3, 0]),
            Piece::Text(b":1}\n".to_vec()),
        ];
        assert_eq!(split(&[stream]), whole);
        for cut in 0..stream.len() {
            let (left, right) = stream.split_at(cut);
            let mut text = Vec::new();
            let mut frames = Vec::new();
            for piece in split(&[left, right]) {
                match piece {
                    Piece::Text(more) => text.extend(more),
                    Piece::Frame(frame) => frames.push(frame),
                }
            }
            assert_eq!(text, b"{\"a\":1}\n", "{cut}");
            assert_eq!(frames, [vec![1, 2, 0], vec![3, 0]], "{cut}");
        }
    }

    #[test]
    fn a_listener_that_comes_in_late_finds_its_place() {
        // In the middle of a frame: its rest looks like text, what follows is right.
        assert_eq!(
            split(&[b"\x07\x08\0ok\0\0\x01\0"]),
            [
                Piece::Text(b"\x07\x08".to_vec()),
                Piece::Text(b"ok".to_vec()),
                Piece::Frame(vec![1, 0])
            ]
            .into_iter()
            .fold(Vec::new(), |mut all: Vec<Piece>, piece| {
                // Text between two frames comes in one piece within a chunk.
                if let (Some(Piece::Text(text)), Piece::Text(more)) = (all.last_mut(), &piece) {
                    text.extend(more);
                } else {
                    all.push(piece);
                }
                all
            })
        );
    }
}
