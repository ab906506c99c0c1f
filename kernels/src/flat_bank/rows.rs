//! Bank vectors row by row, in the precision they were given in.

use half::slice::HalfFloatSliceExt;

use crate::cosine_nn::BankData;
use crate::simd::simd_fn;

/// Partial sums of a loop over elements.
const SUMS: usize = 16;

/// Vectors of one length.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    data: BankData,
    d: usize,
}

impl Rows {
    /// Vectors of `d` elements.
    pub fn new(data: BankData, d: usize) -> Self {
        Self { data, d }
    }

    pub fn data(&self) -> &BankData {
        &self.data
    }

    /// Elements of a vector.
    pub fn dimension(&self) -> usize {
        self.d
    }

    /// Vectors.
    pub fn len(&self) -> usize {
        self.data.elements() / self.d
    }

    /// Vectors `first..first + count`, widened.
    pub fn widened(&self, first: usize, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count * self.d];
        self.widen(first, &mut values);
        values
    }

    /// At most `most` vectors, evenly taken, widened.
    pub fn sample(&self, most: usize) -> Vec<f32> {
        let count = self.len().min(most);
        let mut values = vec![0.0; count * self.d];
        let rows = values.chunks_exact_mut(self.d).enumerate();
        rows.for_each(|(i, to)| self.widen(i * self.len() / count, to));
        values
    }

    /// Fills `to` with vectors from number `first` on.
    fn widen(&self, first: usize, to: &mut [f32]) {
        let range = first * self.d..first * self.d + to.len();
        match &self.data {
            BankData::F16(v) => v[range].convert_to_f32_slice(to),
            BankData::F32(v) => to.copy_from_slice(&v[range]),
        }
    }

    /// Squared Euclidean distance of a query to vector `i`, in f64; `room` is for one vector.
    pub fn square(&self, query: &[f32], i: usize, room: &mut [f32]) -> f64 {
        match &self.data {
            BankData::F16(_) => {
                self.widen(i, room);
                square(query, room)
            }
            BankData::F32(v) => square(query, &v[i * self.d..(i + 1) * self.d]),
        }
    }
}

simd_fn! {
    /// Sum of squared differences, in f64.
    fn square(a: &[f32], b: &[f32]) -> f64 {
        let (mut sums, (whole, rest)) = ([0.0f64; SUMS], a.as_chunks::<SUMS>());
        let (other, other_rest) = b.as_chunks::<SUMS>();
        for (a, b) in whole.iter().zip(other) {
            for n in 0..SUMS {
                let difference = f64::from(a[n]) - f64::from(b[n]);
                sums[n] += difference * difference;
            }
        }
        for (n, (a, b)) in rest.iter().zip(other_rest).enumerate() {
            sums[n] += (f64::from(*a) - f64::from(*b)).powi(2);
        }
        sums.iter().sum()
    }
}
