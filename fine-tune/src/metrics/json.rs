//! JSON: whether answers parse, and whether they say what the reference says.

use serde_json::Value;

use super::{Metric, Sample, Table, mean, share};

/// The share of answers that are one JSON value and nothing else, in percent.
#[derive(Debug, Clone, Copy)]
pub struct JsonValid;

/// The share of answers that are the same JSON value as a reference, in percent: the order of an object's fields and how
/// a number is written don't matter. Samples whose references are not JSON are left out.
#[derive(Debug, Clone, Copy)]
pub struct JsonEqual;

impl Metric for JsonValid {
    fn name(&self) -> &'static str {
        "json-valid"
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(2);
        for sample in samples {
            if sample.references.is_empty() {
                table.push([]);
                continue;
            }
            table.push(share(f64::from(parsed(sample.answer).is_some())));
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        mean(sums)
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        mean(row)
    }
}

impl Metric for JsonEqual {
    fn name(&self) -> &'static str {
        "json-equal"
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(2);
        for sample in samples {
            let mut wanted = sample
                .references
                .iter()
                .filter_map(|text| parsed(text))
                .peekable();
            if wanted.peek().is_none() {
                table.push([]);
                continue;
            }
            let equal = parsed(sample.answer)
                .is_some_and(|answer| wanted.any(|reference| same(&answer, &reference)));
            table.push(share(f64::from(equal)));
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        mean(sums)
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        mean(row)
    }
}

/// The value; the parser bounds how deep it is.
fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other
                || one
                    .as_f64()
                    .is_some_and(|number| other.as_f64() == Some(number))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}
