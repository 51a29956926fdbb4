//! What a metric knows about every sample, ready to be added up in any combination.

/// Rows of numbers, one a sample, most of which may be zero.
#[derive(Debug, Clone, Default)]
pub struct Table {
    width: usize,
    entries: Vec<(usize, f64)>,
    /// Where each row ends in `entries`.
    ends: Vec<usize>,
}

impl Table {
    /// A table without rows, whose rows have `width` columns.
    pub fn new(width: usize) -> Table {
        Table {
            width,
            ..Table::default()
        }
    }

    /// Appends a row, given as columns and values. Columns past the width are left out.
    pub fn push(&mut self, row: impl IntoIterator<Item = (usize, f64)>) {
        let width = self.width;
        let row = row.into_iter();
        self.entries
            .extend(row.filter(|&(column, value)| column < width && value != 0.0));
        self.ends.push(self.entries.len());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The sum of all rows.
    pub fn sum(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        add(&mut sums, &self.entries, 1.0);
        sums
    }

    /// The sum of the rows, each taken as many times as `counts` says.
    pub fn weighted_sum(&self, counts: &[u32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for (index, &count) in counts.iter().enumerate() {
            if count > 0 {
                add(&mut sums, self.entries(index), f64::from(count));
            }
        }
        sums
    }

    /// One row; zeros past the last one.
    pub fn row(&self, index: usize) -> Vec<f64> {
        let mut row = vec![0.0; self.width];
        add(&mut row, self.entries(index), 1.0);
        row
    }

    fn entries(&self, index: usize) -> &[(usize, f64)] {
        let start = index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before));
        let end = self.ends.get(index).copied().unwrap_or_default();
        self.entries
            .get(start.copied().unwrap_or_default()..end)
            .unwrap_or_default()
    }
}

fn add(sums: &mut [f64], entries: &[(usize, f64)], factor: f64) {
    for &(column, value) in entries {
        if let Some(sum) = sums.get_mut(column) {
            *sum += factor * value;
        }
    }
}
