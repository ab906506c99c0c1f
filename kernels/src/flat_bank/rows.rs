//! Bank vectors row by row, in the precision they were given in.

use half::f16;

use crate::bank_data::{BankData, BankElement};
use crate::simd::{LANES, Lanes, lanes_fn, simd_fn};

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
    pub fn widen(&self, first: usize, to: &mut [f32]) {
        let range = first * self.d..first * self.d + to.len();
        match &self.data {
            BankData::F16(v) => f16::widen_into(&v[range], to),
            BankData::F32(v) => f32::widen_into(&v[range], to),
        }
    }

    /// [`Rows::square`] where it may be at most `most`.
    pub fn square_within(&self, query: &[f32], i: usize, most: f64, wide: &mut [f32]) -> Option<f64> {
        let range = i * self.d..(i + 1) * self.d;
        let rough = match &self.data {
            BankData::F16(v) => rough_square(query, &v[range]),
            BankData::F32(v) => rough_square(query, &v[range]),
        };
        // Terms are not negative: what f32 rounds is relative to their sum, but for terms that it rounds to 0.
        let rounding = (self.d + 4) as f64 / f64::from(1 << 24);
        let least = f64::from(rough) * (1.0 - rounding) - self.d as f64 * f64::from(f32::MIN_POSITIVE);
        let is_far = rough.is_finite() && least > most;
        (!is_far).then(|| self.square(query, i, wide))
    }

    /// Squared Euclidean distance of a query to vector `i`, in f64; `wide` is a buffer of one vector, overwritten.
    pub fn square(&self, query: &[f32], i: usize, wide: &mut [f32]) -> f64 {
        match &self.data {
            BankData::F16(_) => {
                self.widen(i, wide);
                square(query, wide)
            }
            BankData::F32(v) => square(query, &v[i * self.d..(i + 1) * self.d]),
        }
    }
}

/// A register of differences of elements.
///
/// # Safety
/// The CPU has the set of `L`, and [`Lanes::WIDTH`] elements can be read at both places.
#[inline(always)]
unsafe fn difference<L: Lanes, T: BankElement>(a: *const f32, b: *const T) -> L {
    // SAFETY: the caller's.
    unsafe { L::load(a).sub(T::load(b)) }
}

/// From a place on, a register with ones in the last lanes alone.
static LAST: [f32; 2 * LANES] = {
    let mut ones = [0.0; 2 * LANES];
    let mut at = LANES;
    while at < 2 * LANES {
        ones[at] = 1.0;
        at += 1;
    }
    ones
};

lanes_fn! {
    /// Sum of squared differences of at least [`LANES`] elements, in f32.
    fn rough_square[T: BankElement][T]<L>(a: &[f32], b: &[T]) -> f32 {
        assert!(a.len() == b.len() && a.len() >= LANES, "vectors of one length, of a register at least");
        let (pairs, whole) = (a.len() / (2 * L::WIDTH) * 2 * L::WIDTH, a.len() / L::WIDTH * L::WIDTH);
        let (a_at, b_at) = (a.as_ptr(), b.as_ptr());
        // SAFETY: every register ends inside both vectors, which have LANES elements at least, and that of `LAST` inside of it, as a
        // register has no more than LANES. `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe {
            let mut sums = [L::splat(0.0); 2];
            for at in (0..pairs).step_by(2 * L::WIDTH) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let difference = difference::<L, T>(a_at.add(at + i * L::WIDTH), b_at.add(at + i * L::WIDTH));
                    *sum = difference.mul_add(difference, *sum);
                }
            }
            if pairs < whole {
                let difference = difference::<L, T>(a_at.add(pairs), b_at.add(pairs));
                sums[0] = difference.mul_add(difference, sums[0]);
            }
            let rest = a.len() - whole;
            if rest > 0 {
                // The last register of the vectors, less what is summed already.
                let (last, zero) = (a.len() - L::WIDTH, L::splat(0.0));
                let difference = difference::<L, T>(a_at.add(last), b_at.add(last));
                let new = L::load(LAST.as_ptr().add(LANES - L::WIDTH + rest)).above(zero, difference, zero);
                sums[1] = new.mul_add(new, sums[1]);
            }
            sums[0].add(sums[1]).sum()
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
