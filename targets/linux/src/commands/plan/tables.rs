//! A memory certificate as tables for people.

use furlong_runtime::Certificate;

use super::fit::Fit;
use crate::text;

/// What there is to know at a glance.
pub fn summary(certificate: &Certificate, features: &[&str], fit: Option<&Fit>) -> String {
    let bytes = |count: usize| text::bytes(count as u64);
    let peak = certificate.ops.get(certificate.peak_op);
    let peak = peak.map_or_else(String::new, |op| format!(" at {} of {}", op.op, op.node));
    let mut rows = vec![
        (
            "for".to_owned(),
            format!("{}, {}", certificate.isa, sizes(certificate)),
        ),
        (
            "flash".to_owned(),
            format!(
                "{} (weights {}, tokenizer {})",
                bytes(certificate.flash_bytes),
                bytes(certificate.weights_bytes),
                bytes(certificate.tokenizer_bytes)
            ),
        ),
        (
            "arena".to_owned(),
            match certificate.cache_bytes {
                0 => format!(
                    "{} (at least {} in use{peak})",
                    bytes(certificate.arena_bytes),
                    bytes(certificate.lower_bound_bytes)
                ),
                cache => format!(
                    "{} (keys and values {}, at least {} in use{peak})",
                    bytes(certificate.arena_bytes),
                    bytes(cache),
                    bytes(certificate.lower_bound_bytes)
                ),
            },
        ),
        (
            "stack".to_owned(),
            format!("at most {}", bytes(certificate.stack_bytes)),
        ),
        (
            "code".to_owned(),
            format!(
                "furlong-core with the features {}; the others can be left out",
                features.join(", ")
            ),
        ),
    ];
    if let Some(fit) = fit {
        let verdict = if fit.fits { "fits" } else { "does not fit" };
        let (flash, ram) = (
            text::bytes(fit.board_flash_bytes),
            text::bytes(fit.board_ram_bytes),
        );
        rows.push((
            "board".to_owned(),
            format!(
                "{}: {verdict} ({flash} of flash and {ram} of RAM beside the firmware)",
                fit.board
            ),
        ));
    }
    text::pairs(&rows)
}

/// How much a plan reads.
pub fn sizes(certificate: &Certificate) -> String {
    let context = certificate.context;
    match certificate.kind {
        "encoder" => format!("sentences of at most {context} tokens"),
        "features" => format!("features of at most {context} rows"),
        _ => format!(
            "{context} tokens of context, {} at once, {} cache",
            certificate.tile, certificate.kv
        ),
    }
}

/// Every op with what is in use while it runs, every buffer, and every constant.
pub fn details(certificate: &Certificate) -> String {
    let head = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
    let mut ops: Vec<Vec<String>> = vec![head(&["op of node", "no.", "kind", "in use"])];
    for (index, op) in certificate.ops.iter().enumerate() {
        ops.push(vec![
            op.node.clone(),
            index.to_string(),
            op.op.to_owned(),
            op.live_bytes.to_string(),
        ]);
    }
    let mut buffers: Vec<Vec<String>> = vec![head(&[
        "buffer", "at", "bytes", "holds", "from op", "to op",
    ])];
    for buffer in &certificate.buffers {
        buffers.push(vec![
            buffer.name.clone(),
            buffer.offset.to_string(),
            buffer.bytes.to_string(),
            buffer.content.to_owned(),
            buffer.first.to_string(),
            buffer
                .last
                .map_or_else(|| "always".to_owned(), |last| last.to_string()),
        ]);
    }
    let mut tensors: Vec<Vec<String>> = vec![head(&["in flash", "rows", "columns", "bytes"])];
    for tensor in &certificate.tensors {
        let numbers = [tensor.rows, tensor.columns, tensor.bytes].map(|number| number.to_string());
        tensors.push([tensor.name.clone()].into_iter().chain(numbers).collect());
    }
    let tables = [ops, buffers, tensors].map(|table| text::columns(&table));
    format!("\n{}", tables.join("\n"))
}
