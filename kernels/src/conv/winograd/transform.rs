//! The transforms of F(OUT x OUT, T x T): OUT by OUT outputs of a T x T kernel from IN by IN inputs, IN = OUT + T - 1, with as many
//! products as inputs.
//!
//! `y = A^T ((G w G^T) * (B^T x B)) A` (Winograd 1980; Lavin and Gray 2016). For IN - 1 points p and infinity: rows of `A^T` are the
//! powers `p^i`, rows of `G` the powers over the product of `p - q` for the other points q, rows of `B^T` the coefficients
//! of the product of `z - q` over them. The files of the kernels choose the points.

use crate::conv::micro::NR;
use crate::device::HostBuffer;
use crate::simd::{Lanes, lanes_fn};

/// The transforms along an axis.
pub(super) trait Transform<const IN: usize, const OUT: usize> {
    /// All but infinity.
    const POINTS: &[f64];
    /// Weights of a kernel along an axis.
    const TAPS: usize = IN + 1 - OUT;

    /// `B^T` times a column of the input.
    ///
    /// # Safety
    /// The CPU has the set of `L`.
    unsafe fn input_column<L: Lanes>(x: [L; IN]) -> [L; IN];

    /// `A^T` times a column of products.
    ///
    /// # Safety
    /// The CPU has the set of `L`.
    unsafe fn output_column<L: Lanes>(m: [L; IN]) -> [L; OUT];
}

/// Weights of the largest kernel along an axis.
const MOST_TAPS: usize = 3;

/// `G` times a column of weights, the first [`Transform::TAPS`], lane by lane.
#[inline(always)]
fn weight_column<T: Transform<IN, OUT>, const IN: usize, const OUT: usize>(
    w: [&[f64; NR]; MOST_TAPS],
) -> [[f64; NR]; IN] {
    let mut out = [*w[T::TAPS - 1]; IN];
    for (out, p) in out.iter_mut().zip(T::POINTS) {
        let share = T::POINTS.iter().filter(|q| *q != p).map(|q| p - q).product::<f64>().recip();
        for (lane, value) in out.iter_mut().enumerate() {
            *value = w[..T::TAPS].iter().rev().fold(0.0, |sum, w| sum * p + w[lane]) * share;
        }
    }
    out
}

lanes_fn! {
    /// `G w G^T` of all kernels, from weights as [`crate::conv::packed::pack`] lays them out, as
    /// `[out / NR][product][part][in][NR]`, where the taps along an axis are of kernels of `parities` in turn.
    pub(super) fn weights[T: Transform<IN, OUT>, const IN: usize, const OUT: usize][T, IN, OUT]<L>(
        packed: &[f32],
        channels: usize,
        parities: usize,
    ) -> HostBuffer<f32> {
        let (side, parts) = (T::TAPS * parities, parities * parities);
        let mut to = HostBuffer::uninit(packed.len() / (T::TAPS * T::TAPS) * IN * IN);
        let len = channels * NR; // of the weights of a tap, or of a product of a part, in a block
        let blocks = packed.chunks_exact(side * side * len).zip(to.chunks_exact_mut(parts * IN * IN * len));
        for (from, to) in blocks {
            for (part, c) in (0..parts).flat_map(|part| (0..channels).map(move |c| (part, c))) {
                let mut kernel = [[[0.0; NR]; MOST_TAPS]; MOST_TAPS];
                for (r, s) in (0..T::TAPS).flat_map(|r| (0..T::TAPS).map(move |s| (r, s))) {
                    let tap = (r * parities + part / parities) * side + s * parities + part % parities;
                    let packed = &from[tap * len + c * NR..][..NR];
                    kernel[r][s].iter_mut().zip(packed).for_each(|(to, from)| *to = f64::from(*from));
                }
                let column = |s: usize| weight_column::<T, IN, OUT>(std::array::from_fn(|r| &kernel[r][s]));
                let columns: [_; MOST_TAPS] = std::array::from_fn(column);
                for r in 0..IN {
                    let row = weight_column::<T, IN, OUT>(std::array::from_fn(|s| &columns[s][r]));
                    for (s, values) in row.iter().enumerate() {
                        let to = &mut to[((r * IN + s) * parts + part) * len + c * NR..][..NR];
                        to.iter_mut().zip(values).for_each(|(to, from)| *to = *from as f32);
                    }
                }
            }
        }
        to
    }
}

/// Writes `B^T x B` of a register of channels: product `k` to `to + k * plane`.
///
/// # Safety
/// The CPU has the set of `L`; a register can be read `channel` after every pixel and written at all those places.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[inline(always)]
pub(super) unsafe fn input<L: Lanes, T: Transform<IN, OUT>, const IN: usize, const OUT: usize>(
    pixels: &[[*const f32; IN]; IN],
    channel: usize,
    to: *mut f32,
    plane: usize,
) {
    // SAFETY: the caller vouches for the set, the pixels and the places.
    unsafe {
        let mut columns = [[L::splat(0.0); IN]; IN];
        for (s, column) in columns.iter_mut().enumerate() {
            for (r, value) in column.iter_mut().enumerate() {
                *value = L::load(pixels[r][s].add(channel));
            }
            *column = T::input_column(*column);
        }
        for r in 0..IN {
            let row: [L; IN] = std::array::from_fn(|s| columns[s][r]);
            for (s, value) in T::input_column(row).into_iter().enumerate() {
                value.store(to.add((r * IN + s) * plane));
            }
        }
    }
}

/// `A^T m A + bias` of a register of channels, where product `k` lies at `from + k * plane`.
///
/// # Safety
/// The CPU has the set of `L`, and a register can be read at all those places.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[inline(always)]
pub(super) unsafe fn output<L: Lanes, T: Transform<IN, OUT>, const IN: usize, const OUT: usize>(
    from: *const f32,
    plane: usize,
    bias: L,
) -> [[L; OUT]; OUT] {
    // SAFETY: the caller vouches for the set and the places.
    unsafe {
        let mut columns = [[bias; OUT]; IN];
        for (s, column) in columns.iter_mut().enumerate() {
            let mut products = [bias; IN];
            for (r, value) in products.iter_mut().enumerate() {
                *value = L::load(from.add((r * IN + s) * plane));
            }
            *column = T::output_column(products);
        }
        let mut rows = [[bias; OUT]; OUT];
        for (r, row) in rows.iter_mut().enumerate() {
            let products: [L; OUT] = T::output_column(std::array::from_fn(|s| columns[s][r]));
            for s in 0..OUT {
                row[s] = products[s].add(bias);
            }
        }
        rows
    }
}
