//! A sparse matrix, row by row.

use std::ops::{Index, Range};

/// Columns and values of the elements of every row, in the order of the columns that the row was given in.
#[derive(Debug)]
pub(crate) struct SparseRows {
    elements: Vec<(usize, f32)>,
    rows: Vec<Range<usize>>,
}

impl SparseRows {
    /// No rows, with the capacity for so many, of so many elements each.
    pub fn with_capacity(rows: usize, each: usize) -> Self {
        Self { elements: Vec::with_capacity(rows * each), rows: Vec::with_capacity(rows) }
    }

    /// Adds a row.
    pub fn push(&mut self, elements: impl Iterator<Item = (usize, f32)>) {
        let first = self.elements.len();
        self.elements.extend(elements);
        self.rows.push(first..self.elements.len());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Every row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[(usize, f32)]> {
        self.rows.iter().map(|row| &self.elements[row.clone()])
    }

    /// The transposed matrix, of `columns` rows. Elements of one place are added.
    pub fn transposed(&self, columns: usize) -> Self {
        let mut counts = vec![0; columns];
        self.elements.iter().for_each(|(column, _)| counts[*column] += 1);
        let mut first = 0;
        let begin = |count: &usize| {
            first += count;
            first - count..first - count
        };
        let mut rows: Vec<Range<usize>> = counts.iter().map(begin).collect();
        let mut elements = vec![(0, 0.0); self.elements.len()];
        for (i, row) in self.iter().enumerate() {
            for (column, value) in row {
                let reached = &mut rows[*column];
                if reached.end > reached.start && elements[reached.end - 1].0 == i {
                    elements[reached.end - 1].1 += value;
                } else {
                    elements[reached.end] = (i, *value);
                    reached.end += 1;
                }
            }
        }
        Self { elements, rows }
    }
}

impl Index<usize> for SparseRows {
    type Output = [(usize, f32)];

    fn index(&self, row: usize) -> &[(usize, f32)] {
        &self.elements[self.rows[row].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_adds_elements_of_one_place() {
        let mut matrix = SparseRows::with_capacity(2, 3);
        matrix.push([(1, 1.0), (0, 2.0), (1, 4.0)].into_iter());
        matrix.push([(1, 8.0)].into_iter());
        let transposed = matrix.transposed(3);
        let rows: Vec<_> = transposed.iter().collect();
        assert_eq!(rows, [&[(0, 2.0)][..], &[(0, 5.0), (1, 8.0)], &[]]);
        assert_eq!(transposed.len(), 3);
    }
}
