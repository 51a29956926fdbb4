//! How BLEU cuts a sentence into words, in sacreBLEU's ways.

use std::borrow::Cow;

use regex::Regex;

use super::ngrams::{is_space, words};

/// A way to cut a sentence into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenise {
    /// At white space only.
    Words,
    /// As `mteval-v13a.pl` of NIST does: punctuation stands alone, but for dots and commas in numbers.
    Mteval13a,
    /// As `mteval-v14.pl --international-tokenization` does: the same by Unicode's categories.
    International,
    /// Each character but white space.
    Characters,
}

/// A tokeniser with its rules ready to use.
#[derive(Debug)]
pub(super) struct Tokeniser {
    kind: Tokenise,
    rules: Vec<(Regex, &'static str)>,
}

impl Tokeniser {
    pub(super) fn new(kind: Tokenise) -> Tokeniser {
        let rules: &[(&str, &str)] = match kind {
            Tokenise::Words | Tokenise::Characters => &[],
            Tokenise::Mteval13a => &[
                (r"([\{-~\[-` -&\(-\+:-@/])", " ${1} "),
                // Period and comma, unless a digit comes before; unless one comes after.
                (r"([^0-9])([\.,])", "${1} ${2} "),
                (r"([\.,])([^0-9])", " ${1} ${2}"),
                // A dash after a digit.
                (r"([0-9])(-)", "${1} ${2} "),
            ],
            Tokenise::International => &[
                (r"(\P{N})(\p{P})", "${1} ${2} "),
                (r"(\p{P})(\P{N})", " ${1} ${2}"),
                (r"(\p{S})", " ${1} "),
            ],
        };
        // The patterns are constants of this file: they compile, and a test uses each.
        let compiled = rules
            .iter()
            .filter_map(|&(pattern, with)| Some((Regex::new(pattern).ok()?, with)));
        Tokeniser {
            kind,
            rules: compiled.collect(),
        }
    }

    /// The tokens of a sentence.
    pub(super) fn tokens(&self, sentence: &str) -> Vec<String> {
        let sentence = sentence.trim_end_matches(is_space);
        if self.kind == Tokenise::Characters {
            let characters = sentence.chars().filter(|&c| !is_space(c));
            return characters.map(String::from).collect();
        }
        let mut text = match self.kind {
            Tokenise::Mteval13a => Cow::Owned(format!(" {} ", without_markup(sentence))),
            _ => Cow::Borrowed(sentence),
        };
        for (rule, with) in &self.rules {
            text = Cow::Owned(rule.replace_all(&text, *with).into_owned());
        }
        words(&text).into_iter().map(str::to_owned).collect()
    }
}

/// Takes out what SGML left in the texts that mteval was written for.
fn without_markup(line: &str) -> String {
    line.replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
}
