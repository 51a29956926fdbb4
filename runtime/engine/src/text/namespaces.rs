//! Keeps a template from putting a namespace into itself.
//!
//! `namespace()` makes the only value of a template that can change. One that contains itself sends everything that walks
//! over it, printing say, into a recursion that no budget stops. So a namespace may only do what templates use it for: be
//! named by `{% set ns = namespace(…) %}`, and have its fields read and set. Nothing else may hold one.

use std::collections::BTreeSet;

use minijinja::Template;
use minijinja::machinery::{Instruction, get_compiled_template};

/// Looks through a compiled template.
///
/// # Errors
/// The line and the reason where a namespace is used in any other way.
pub(crate) fn check(template: &Template<'_, '_>) -> Result<(), (Option<usize>, String)> {
    let code = &get_compiled_template(template).instructions;
    let instruction = |at: u32| code.get(at);
    let mut named = BTreeSet::new();
    let mut at = 0;
    while let Some(current) = instruction(at) {
        match (current, instruction(at + 1)) {
            (Instruction::CallFunction("namespace", _), Some(Instruction::StoreLocal(name))) => {
                named.insert(*name);
            }
            (Instruction::CallFunction("namespace", _) | Instruction::Lookup("namespace"), _) => {
                let reason = "a namespace must be named at once: `{% set ns = namespace() %}`";
                return Err((code.get_line(at), reason.to_owned()));
            }
            _ => {}
        }
        at += 1;
    }
    let mut at = 0;
    while let Some(current) = instruction(at) {
        if let Instruction::Lookup(name) = current
            && named.contains(name)
        {
            let field = match instruction(at + 1) {
                Some(Instruction::LoadConst(_)) => {
                    matches!(instruction(at + 2), Some(Instruction::GetItem))
                }
                next => matches!(
                    next,
                    Some(
                        Instruction::GetAttr(_)
                            | Instruction::SetAttr(_)
                            | Instruction::PerformTest(..)
                    )
                ),
            };
            if !field {
                let reason = format!("the namespace `{name}` is used other than by its fields");
                return Err((code.get_line(at), reason));
            }
        }
        at += 1;
    }
    Ok(())
}
