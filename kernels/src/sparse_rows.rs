//! A sparse matrix, row by row.

use std::ops::Index;

use bytemuck::{Pod, Zeroable};

use crate::device::Reused;

/// An element of a row.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Entry {
    pub column: u32,
    pub value: f32,
}

impl Entry {
    pub fn new(column: usize, value: f32) -> Self {
        Self { column: column as u32, value }
    }
}

/// The elements of every row, in the order of the columns that the row was given in.
#[derive(Debug)]
pub(crate) struct SparseRows {
    elements: Reused<Entry>,
    /// Where the elements of each row begin and end.
    rows: Reused<[usize; 2]>,
}

impl SparseRows {
    /// No rows, with the capacity for so many, of so many elements each.
    pub fn with_capacity(rows: usize, each: usize) -> Self {
        Self { elements: Reused::with_capacity(rows * each), rows: Reused::with_capacity(rows) }
    }

    /// Adds a row.
    pub fn push(&mut self, elements: impl Iterator<Item = Entry>) {
        let first = self.elements.len();
        self.elements.extend(elements);
        self.rows.push([first, self.elements.len()]);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Every row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[Entry]> {
        self.rows.iter().map(|[first, end]| &self.elements[*first..*end])
    }

    /// The transposed matrix, of `columns` rows. Elements of one place are added.
    pub fn transposed(&self, columns: usize) -> Self {
        let mut rows = Reused::filled(columns, [0; 2]);
        self.elements.iter().for_each(|entry| rows[entry.column as usize][1] += 1);
        let mut first = 0;
        for row in rows.iter_mut() {
            let count = row[1];
            *row = [first; 2];
            first += count;
        }
        let mut elements = Reused::filled(self.elements.len(), Entry::new(0, 0.0));
        for (i, row) in self.iter().enumerate() {
            for Entry { column, value } in row {
                let [first, end] = &mut rows[*column as usize];
                if end > first && elements[*end - 1].column as usize == i {
                    elements[*end - 1].value += value;
                } else {
                    elements[*end] = Entry::new(i, *value);
                    *end += 1;
                }
            }
        }
        Self { elements, rows }
    }
}

impl Index<usize> for SparseRows {
    type Output = [Entry];

    fn index(&self, row: usize) -> &[Entry] {
        let [first, end] = self.rows[row];
        &self.elements[first..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_adds_elements_of_one_place() {
        let mut matrix = SparseRows::with_capacity(2, 3);
        let row = |entries: &[(usize, f32)]| entries.iter().map(|(c, v)| Entry::new(*c, *v)).collect::<Vec<_>>();
        matrix.push(row(&[(1, 1.0), (0, 2.0), (1, 4.0)]).into_iter());
        matrix.push(row(&[(1, 8.0)]).into_iter());
        let transposed = matrix.transposed(3);
        let rows: Vec<_> = transposed.iter().collect();
        assert_eq!(rows, [&row(&[(0, 2.0)])[..], &row(&[(0, 5.0), (1, 8.0)]), &[]]);
        assert_eq!(transposed.len(), 3);
    }
}
