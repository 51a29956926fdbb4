//! Guesses the next tokens from what was said before, so that the model can check several in one pass.
//!
//! An answer often repeats the prompt or itself: names, quotations, code, lists. Where the latest tokens have been seen
//! before, the guess is what followed then. A. Saxena, «Prompt Lookup Decoding», 2023; the check of guesses in one
//! pass is Y. Leviathan and others, «Fast Inference from Transformers via Speculative Decoding», 2023, arXiv 2211.17192. There
//! a guess is taken with a probability; here only if it is the very token that the sampler draws, so that the
//! answer is the same with and without guesses.
//!
//! A pass over several tokens costs more than one over one, so guesses that fail cost time. They start short, grow while all
//! of them hold, and pause after failures, longer each time.

/// Latest tokens that must have been seen before.
const SHORTEST_MATCH: usize = 2;

/// A longer match is as good as this one.
const LONGEST_MATCH: usize = 8;

/// Tokens of the first guess, and of the first after a failure.
const FIRST_GUESS: usize = 3;

/// Most tokens without a guess after failures.
const LONGEST_PAUSE: usize = 64;

/// Guesses tokens, and learns from how they fare.
#[derive(Debug)]
pub(super) struct Lookup {
    most: usize,
    /// Tokens of the next guess.
    length: usize,
    /// Tokens to go before the next guess.
    pause: usize,
    /// The pause after the next failure.
    next_pause: usize,
}

impl Lookup {
    /// Guesses of at most `most` tokens; 0 makes none.
    pub(super) fn new(most: usize) -> Lookup {
        Lookup {
            most,
            length: FIRST_GUESS.min(most),
            pause: 0,
            next_pause: 1,
        }
    }

    /// What may follow `text`: up to `room` tokens, into `guess`.
    pub(super) fn guess(&mut self, text: &[u32], room: usize, guess: &mut Vec<u32>) {
        guess.clear();
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let length = self.length.min(room);
        let Some(start) = (length > 0).then(|| continuation(text)).flatten() else {
            return;
        };
        // Past its end the text goes on as guessed: what repeats is guessed to repeat once more.
        for at in start..start + length {
            let seen = text.get(at);
            let token = seen.or_else(|| guess.get(at - text.len())).copied();
            guess.extend(token);
        }
    }

    /// Of `guessed` tokens the first `held` were right.
    pub(super) fn learn(&mut self, guessed: usize, held: usize) {
        if held == guessed {
            self.length = (2 * self.length + 1).min(self.most);
        } else {
            self.length = (held + 1).max(FIRST_GUESS).min(self.most);
        }
        if held > 0 {
            self.next_pause = 1;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(LONGEST_PAUSE);
        }
    }
}

/// Where that which followed the latest tokens of `text` starts: after the longest match, of equals the latest.
fn continuation(text: &[u32]) -> Option<usize> {
    let mut best = None;
    let mut longest = SHORTEST_MATCH - 1;
    for end in (1..text.len()).rev() {
        let before = text.get(..end)?;
        let same = before.iter().rev().zip(text.iter().rev());
        let len = same
            .take(LONGEST_MATCH)
            .take_while(|(earlier, latest)| earlier == latest)
            .count();
        if len > longest {
            longest = len;
            best = Some(end);
            if len == LONGEST_MATCH {
                break;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(text: &[u32], most: usize) -> Vec<u32> {
        let (mut guess, mut lookup) = (Vec::new(), Lookup::new(most));
        lookup.length = most;
        lookup.guess(text, 100, &mut guess);
        guess
    }

    #[test]
    fn the_longest_and_then_the_latest_match_counts() {
        assert_eq!(guess(&[1, 2, 3, 9, 2, 3, 8, 2, 3], 2), [8, 2]);
        assert_eq!(guess(&[1, 2, 3, 9, 7, 2, 3, 8, 1, 2, 3], 2), [9, 7]);
        assert_eq!(guess(&[4, 5, 4, 5, 4, 5], 5), [4, 5, 4, 5, 4]);
        assert_eq!(guess(&[6, 6, 6], 4), [6, 6, 6, 6]);
        for none in [&[][..], &[1], &[1, 1], &[1, 2, 3, 4, 3]] {
            assert_eq!(guess(none, 4), [0; 0]);
        }
        assert_eq!(guess(&[6, 6, 6], 0), [0; 0]);
    }

    #[test]
    fn failures_make_pauses_and_success_makes_longer_guesses() {
        let (mut lookup, mut out) = (Lookup::new(15), Vec::new());
        let mut next = |lookup: &mut Lookup| {
            lookup.guess(&[6, 6, 6], 100, &mut out);
            out.len()
        };
        for expected in [3, 7, 15, 15] {
            assert_eq!(next(&mut lookup), expected);
            lookup.learn(expected, expected);
        }
        for pause in [1, 2, 4] {
            assert!(next(&mut lookup) > 0);
            lookup.learn(3, 0);
            assert!((0..pause).all(|_| next(&mut lookup) == 0));
        }
        assert_eq!(next(&mut lookup), 3);
        lookup.learn(3, 1);
        assert_eq!(next(&mut lookup), 3);
    }
}
