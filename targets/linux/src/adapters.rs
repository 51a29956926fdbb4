//! The adapters that a command was given: loaded beside its model, chosen by name.

use std::path::Path;

use anyhow::{Result, bail};
use furlong_runtime::{Adapter, Model};

use crate::cli::{AdapterArg, AdapterArgs};
use crate::failure::Hint;

/// What stands for the model without an adapter.
const NONE: &str = "none";

/// An adapter, or the model alone, under the name that the user knows it by.
#[derive(Debug)]
pub struct Choice {
    /// The name.
    pub name: String,
    /// The adapter; none for the model alone.
    pub adapter: Option<Adapter>,
}

/// Loads all adapters of the command line, in its order.
///
/// # Errors
/// One that isn't there or doesn't fit the model, and two of one name.
pub fn load(model: &Model, args: &AdapterArgs) -> Result<Vec<Choice>> {
    let mut choices: Vec<Choice> = Vec::new();
    for arg in &args.adapter {
        let choice = load_one(model, arg)?;
        if choices.iter().any(|other| other.name == choice.name) {
            bail!(
                anyhow::anyhow!("two adapters are called {}", choice.name)
                    .context(Hint("give them names: --adapter NAME=DIR".to_owned()))
            );
        }
        choices.push(choice);
    }
    Ok(choices)
}

fn load_one(model: &Model, arg: &AdapterArg) -> Result<Choice> {
    if arg.place == Path::new(NONE) {
        return Ok(Choice {
            name: NONE.to_owned(),
            adapter: None,
        });
    }
    let folder = model.find_adapter(&arg.place)?;
    let adapter = model.load_adapter(&folder)?;
    let name = arg.name.clone();
    Ok(Choice {
        name: name.unwrap_or_else(|| adapter.name().to_owned()),
        adapter: Some(adapter),
    })
}

/// The adapter of this name among those loaded; `none` is always there.
///
/// # Errors
/// A name that none of them has.
pub fn choose<'c>(choices: &'c [Choice], name: &str) -> Result<Option<&'c Adapter>> {
    if name == NONE {
        return Ok(None);
    }
    match choices.iter().find(|choice| choice.name == name) {
        Some(choice) => Ok(choice.adapter.as_ref()),
        None => {
            let names = choices.iter().map(|choice| choice.name.as_str());
            let names: Vec<&str> = names.filter(|name| *name != NONE).chain([NONE]).collect();
            bail!(
                "no adapter is called {name:?}; there are {}",
                names.join(", ")
            )
        }
    }
}
