//! Small tables for people.

/// Prints rows of cells; columns are as wide as their widest cell, the first one left-aligned, the others right-aligned.
pub fn print(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}

/// A number of bytes for people: `89.9 MB`.
pub fn bytes(count: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let count = count as f64;
    match units.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count / size),
        None => format!("{count} B"),
    }
}

/// Prints rows of two cells, both left-aligned.
pub fn print_left(rows: &[Vec<String>]) {
    let names = rows.iter().filter_map(|row| row.first());
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    for row in rows {
        if let [name, value] = row.as_slice() {
            println!("{name:<width$}  {value}");
        }
    }
}
