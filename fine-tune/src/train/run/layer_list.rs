//! Numbers of layers as people write them: `15-29`, or `0,2,4-7`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The highest number of a layer that is read.
const MAX: usize = 1 << 16;

/// Numbers of layers, in rising order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerList(pub Vec<usize>);

impl FromStr for LayerList {
    type Err = String;

    fn from_str(text: &str) -> Result<LayerList, String> {
        let number = |text: &str| match text.trim().parse::<usize>() {
            Ok(layer) if layer < MAX => Ok(layer),
            _ => Err(format!("{text:?} is no number of a layer")),
        };
        let mut layers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!(
                    "{part} has no layers: the lower number comes first"
                ));
            }
            layers.extend(first..=last);
        }
        layers.sort_unstable();
        layers.dedup();
        Ok(LayerList(layers))
    }
}

impl fmt::Display for LayerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (index, run) in runs.enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match run {
                [first, .., last] => write!(f, "{first}-{last}")?,
                [only] => write!(f, "{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl Serialize for LayerList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::LayerList;

    #[test]
    fn lists_are_read_and_written() {
        for (text, layers, again) in [
            ("3", vec![3], "3"),
            ("7, 0-2,2", vec![0, 1, 2, 7], "0-2,7"),
            ("0-29", (0..30).collect(), "0-29"),
        ] {
            let list: LayerList = text.parse().unwrap();
            assert_eq!((&list.0, list.to_string().as_str()), (&layers, again));
        }
        for wrong in ["", "a", "3-1", "1,", "-1", "0-99999999999", "1-2-3"] {
            wrong.parse::<LayerList>().unwrap_err();
        }
    }
}
