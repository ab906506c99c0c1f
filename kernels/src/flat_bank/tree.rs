//! A k-d tree over the coordinates of a bank (Friedman, Bentley and Finkel 1977): vectors in such an order that those of a
//! panel are near each other, and the panel that a query belongs to.

use rayon::join;

use crate::simd::LANES;

/// Panels below which a branch is ordered by one thread.
const PANELS_OF_A_TASK: usize = 64;

/// Where the vectors of a branch part: those below go left.
#[derive(Clone, Copy, Debug, Default)]
struct Split {
    direction: usize,
    at: f32,
}

/// The order of vectors, and the splits that led to it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Numbers of the vectors, panel by panel.
    order: Vec<u32>,
    /// Of the branch whose right half begins with a panel, the split at the number of that panel.
    splits: Vec<Split>,
}

impl Tree {
    /// Of vectors with coordinates `[len][count]`; each branch is split in the direction of its largest variance.
    pub fn new(coordinates: &[f32], count: usize) -> Self {
        let len = coordinates.len() / count;
        let mut order: Vec<u32> = (0..len as u32).collect();
        let mut splits = vec![Split::default(); len.div_ceil(LANES)];
        arrange(coordinates, count, &mut order, &mut splits);
        Self { order, splits }
    }

    /// The number of each vector, in the order of the panels.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The panel that a vector of such coordinates would be in.
    pub fn panel_of(&self, coordinates: &[f32]) -> usize {
        let (mut first, mut end) = (0, self.splits.len());
        while end - first > 1 {
            let middle = middle(first, end);
            let split = self.splits[middle];
            if coordinates[split.direction] < split.at {
                end = middle;
            } else {
                first = middle;
            }
        }
        first
    }
}

/// The panel that the right half of a branch begins with.
fn middle(first: usize, end: usize) -> usize {
    first + (end - first) / 2
}

/// Orders the vectors of a branch; `splits` are those of its panels.
fn arrange(coordinates: &[f32], count: usize, order: &mut [u32], splits: &mut [Split]) {
    let panels = splits.len();
    if panels < 2 {
        return;
    }
    let direction = widest(coordinates, count, order);
    let of = |vector: &u32| coordinates[*vector as usize * count + direction];
    let first = middle(0, panels);
    let by_place = |a: &u32, b: &u32| of(a).total_cmp(&of(b)).then(a.cmp(b));
    let (_, at, _) = order.select_nth_unstable_by(first * LANES, by_place);
    splits[first] = Split { direction, at: of(at) };
    let (left, right) = order.split_at_mut(first * LANES);
    let (left_splits, right_splits) = splits.split_at_mut(first);
    // The first split of the right half is that at which it begins: neither half writes it again.
    let mut left = || arrange(coordinates, count, left, left_splits);
    let mut right = || arrange(coordinates, count, right, right_splits);
    if panels < PANELS_OF_A_TASK {
        left();
        right();
    } else {
        join(left, right);
    }
}

/// The direction in which the coordinates of some vectors vary most.
fn widest(coordinates: &[f32], count: usize, vectors: &[u32]) -> usize {
    let mut sums = vec![[0.0f64; 2]; count];
    for vector in vectors {
        let of_vector = &coordinates[*vector as usize * count..][..count];
        for (sum, v) in sums.iter_mut().zip(of_vector) {
            sum[0] += f64::from(*v);
            sum[1] += f64::from(*v).powi(2);
        }
    }
    let spread = |sum: &[f64; 2]| sum[1] - sum[0].powi(2) / vectors.len() as f64;
    (1..count).fold(0, |a, b| if spread(&sums[b]) > spread(&sums[a]) { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every vector is there once, and lies in the panel that its coordinates lead to unless another has the same.
    #[test]
    fn vectors_are_where_they_belong() {
        for len in [1, 15, 16, 17, 33, 1000, 2500] {
            let hash = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32;
            let coordinates: Vec<f32> = (0..3 * len as u64).map(hash).collect();
            let tree = Tree::new(&coordinates, 3);
            let mut numbers = tree.order().to_vec();
            numbers.sort_unstable();
            assert!(numbers.iter().enumerate().all(|(i, n)| i == *n as usize));
            for (place, vector) in tree.order().iter().enumerate() {
                let of_vector = &coordinates[3 * *vector as usize..][..3];
                assert_eq!(tree.panel_of(of_vector), place / LANES, "vector {vector} of {len}");
            }
        }
    }
}
