//! Memory over time as a picture: ops from left to right, the arena from bottom to top, a rectangle for each buffer.

use std::fmt::Write;

use furlong_runtime::Certificate;

use super::tables;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
const RIGHT: f64 = 20.0;

/// The picture of a certificate.
pub fn draw(certificate: &Certificate) -> String {
    // The sampler and the tokenizer come after the ops.
    let steps = (certificate.ops.len() + 2) as f64;
    let arena = certificate.arena_bytes.max(1) as f64;
    let x = |step: f64| LEFT + step / steps * (WIDTH - LEFT - RIGHT);
    let y = |bytes: f64| HEIGHT - BOTTOM - bytes / arena * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let title = format!(
        "Arena of {} bytes: {}",
        certificate.arena_bytes,
        tables::sizes(certificate)
    );
    text(&mut svg, LEFT, 24.0, "start", &title);
    for buffer in certificate.buffers.iter().filter(|buffer| buffer.bytes > 0) {
        let last = buffer.last.map_or(steps, |last| (last + 1) as f64);
        let (left, right) = (x(buffer.first as f64), x(last.min(steps)));
        let (low, high) = (
            y(buffer.offset as f64),
            y((buffer.offset + buffer.bytes) as f64),
        );
        let life = match buffer.last {
            Some(last) => format!("ops {} to {last}", buffer.first),
            None => "always".to_owned(),
        };
        let about = format!(
            "{}: {} bytes at {}, {life}",
            buffer.name, buffer.bytes, buffer.offset
        );
        // Writing to a string never fails.
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" stroke=\"white\" \
             stroke-width=\"0.5\"><title>{}</title></rect>",
            right - left,
            low - high,
            colour(buffer.content),
            escaped(&about)
        );
    }
    let mut line = String::new();
    for (index, op) in certificate.ops.iter().enumerate() {
        let height = y(op.live_bytes as f64);
        let _ = write!(
            line,
            "{:.1},{height:.1} {:.1},{height:.1} ",
            x(index as f64),
            x(index as f64 + 1.0)
        );
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"black\"/>",
        line.trim_end()
    );
    for part in 0..=4 {
        let bytes = arena * f64::from(part) / 4.0;
        text(
            &mut svg,
            LEFT - 8.0,
            y(bytes) + 4.0,
            "end",
            &format!("{bytes:.0}"),
        );
    }
    for part in 0..=4 {
        let step = ((steps - 2.0) * f64::from(part) / 4.0).round();
        text(
            &mut svg,
            x(step),
            HEIGHT - BOTTOM + 18.0,
            "middle",
            &format!("{step:.0}"),
        );
    }
    let legend = [
        ("cache", "keys and values"),
        ("floats", "activations"),
        ("bytes", "prepared for kernels"),
        ("words", "tokens and text"),
    ];
    for (index, (content, name)) in legend.into_iter().enumerate() {
        let left = LEFT + 190.0 * index as f64;
        let top = HEIGHT - 20.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{}\"/>",
            colour(content)
        );
        text(&mut svg, left + 18.0, top + 11.0, "start", name);
    }
    text(
        &mut svg,
        LEFT + 760.0,
        HEIGHT - 9.0,
        "start",
        "line: in use; to the right: ops",
    );
    svg.push_str("</svg>\n");
    svg
}

fn colour(content: &str) -> &'static str {
    match content {
        "cache" => "#4c78a8",
        "floats" => "#f58518",
        "bytes" => "#e45756",
        _ => "#72b7b2",
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(words)
    );
}

/// Text of a model, which may hold anything, as XML takes it.
fn escaped(text: &str) -> String {
    let clean = text.chars().filter(|character| !character.is_control());
    clean.fold(String::new(), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
        out
    })
}
