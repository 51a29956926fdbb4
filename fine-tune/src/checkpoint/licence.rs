//! What a model folder says about its licence.

use std::path::Path;

use super::files::{self, SETTINGS_LIMIT};
use crate::error::Result;

/// The licence that the front matter of `README.md` names, else the one that the `LICENSE` file can be recognised as.
pub fn read(folder: &Path) -> Result<Option<String>> {
    if let Some(card) = files::text(folder, "README.md", SETTINGS_LIMIT)?
        && let Some(licence) = front_matter(&card)
    {
        return Ok(Some(licence));
    }
    for name in ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"] {
        if let Some(text) = files::text(folder, name, SETTINGS_LIMIT)? {
            return Ok(Some(
                recognise(&text)
                    .unwrap_or(&format!("see {name}"))
                    .to_owned(),
            ));
        }
    }
    Ok(None)
}

/// `license` (or `license_name`, where that only says `other`) from the YAML between two `---` at the start.
fn front_matter(card: &str) -> Option<String> {
    let yaml = card
        .trim_start_matches('\u{feff}')
        .strip_prefix("---")?
        .split("\n---")
        .next()?;
    let field = |name: &str| {
        yaml.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
            .filter(|value| !value.is_empty())
    };
    match field("license") {
        Some(licence) if licence == "other" => field("license_name").or(Some(licence)),
        licence => licence,
    }
}

fn recognise(text: &str) -> Option<&'static str> {
    let start: String = text.chars().take(2000).collect();
    let has = |phrase: &str| start.contains(phrase);
    if has("Apache License") && has("Version 2.0") {
        Some("apache-2.0")
    } else if has("MIT License") || has("Permission is hereby granted, free of charge") {
        Some("mit")
    } else if has("Redistribution and use in source and binary forms") {
        Some(if has("Neither the name") {
            "bsd-3-clause"
        } else {
            "bsd-2-clause"
        })
    } else {
        None
    }
}
