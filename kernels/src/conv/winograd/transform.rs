//! The transforms of F(4x4, 3x3): four by four outputs of a 3x3 kernel from six by six inputs with 36 products.
//!
//! `y = A^T ((G w G^T) * (B^T x B)) A` (Winograd 1980; Lavin and Gray 2016), here with the points 0, +-3/4, +-3/2 and
//! infinity. Inputs are transformed by numbers that are exact in binary, and errors are 0.4 times those of the usual points 0,
//! +-1, +-2: with 512 channels 1.2e-6 of the outputs' deviation (root mean square) where sums without transforms have 0.6e-6.
//!
//! For points p: rows of `A^T` are the powers `p^i`, rows of `G` the powers over the product of `p - q` for the other
//! points q, rows of `B^T` the coefficients of the product of `z - q` over them.

use crate::conv::micro::NR;
use crate::device::HostBuffer;
use crate::simd::{Lanes, simd_fn};

/// Pixels of a tile's output along an axis.
pub(super) const OUT: usize = 4;
/// Pixels of a tile's input along an axis.
pub(super) const IN: usize = 6;
/// Products of a tile.
pub(super) const PRODUCTS: usize = IN * IN;

/// Weights of a kernel.
const TAPS: usize = 9;

/// The points next to 0 and infinity, with either sign.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// `G` times a column of the kernel, lane by lane.
#[inline(always)]
fn weight_column(w: [&[f64; NR]; 3]) -> [[f64; NR]; IN] {
    const POINTS: [f64; IN - 1] = [0.0, P as f64, -P as f64, Q as f64, -Q as f64];
    let mut out = [*w[2]; IN];
    for (out, p) in out.iter_mut().zip(POINTS) {
        let share = POINTS.iter().filter(|q| **q != p).map(|q| p - q).product::<f64>().recip();
        for (lane, value) in out.iter_mut().enumerate() {
            *value = (w[0][lane] + p * (w[1][lane] + p * w[2][lane])) * share;
        }
    }
    out
}

simd_fn! {
    /// `G w G^T` of all kernels, from weights as [`crate::conv::packed::pack`] lays them out, as
    /// `[out / NR][product][in][NR]`.
    pub(super) fn weights(packed: &[f32], channels: usize) -> HostBuffer<f32> {
        let mut to = HostBuffer::uninit(packed.len() / TAPS * PRODUCTS);
        let len = channels * NR; // of the weights of a tap or a product in a block
        for (from, to) in packed.chunks_exact(TAPS * len).zip(to.chunks_exact_mut(PRODUCTS * len)) {
            for c in 0..channels {
                let mut taps = [[0.0; NR]; TAPS];
                for (tap, values) in taps.iter_mut().enumerate() {
                    let packed = &from[tap * len + c * NR..][..NR];
                    values.iter_mut().zip(packed).for_each(|(to, from)| *to = f64::from(*from));
                }
                let columns: [_; 3] = std::array::from_fn(|s| weight_column([&taps[s], &taps[3 + s], &taps[6 + s]]));
                for r in 0..IN {
                    let row = weight_column([&columns[0][r], &columns[1][r], &columns[2][r]]);
                    for (s, values) in row.iter().enumerate() {
                        let to = &mut to[(r * IN + s) * len + c * NR..][..NR];
                        to.iter_mut().zip(values).for_each(|(to, from)| *to = *from as f32);
                    }
                }
            }
        }
        to
    }
}

/// `B^T` times a column of the input.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
unsafe fn input_column<L: Lanes>(x: [L; IN]) -> [L; IN] {
    // SAFETY: the caller vouches for the set.
    let (p, q, p2, q2, both, product) =
        unsafe { (L::splat(P), L::splat(Q), L::splat(-P2), L::splat(-Q2), L::splat(-P2 - Q2), L::splat(P2 * Q2)) };
    let [x0, x1, x2, x3, x4, x5] = x;
    let (even_p, odd_p) = (x2.mul_add(q2, x4), x1.mul_add(q2, x3).mul(p));
    let (even_q, odd_q) = (x2.mul_add(p2, x4), x1.mul_add(p2, x3).mul(q));
    [
        x0.mul_add(product, x2.mul_add(both, x4)),
        even_p.add(odd_p),
        even_p.sub(odd_p),
        even_q.add(odd_q),
        even_q.sub(odd_q),
        x1.mul_add(product, x3.mul_add(both, x5)),
    ]
}

/// `A^T` times a column of products.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
unsafe fn output_column<L: Lanes>(m: [L; IN]) -> [L; OUT] {
    // SAFETY: the caller vouches for the set.
    let (p, q, p2, q2, p3, q3) =
        unsafe { (L::splat(P), L::splat(Q), L::splat(P2), L::splat(Q2), L::splat(P2 * P), L::splat(Q2 * Q)) };
    let [m0, m1, m2, m3, m4, m5] = m;
    let (even_p, odd_p, even_q, odd_q) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
    [
        m0.add(even_p).add(even_q),
        odd_p.mul_add(p, odd_q.mul(q)),
        even_p.mul_add(p2, even_q.mul(q2)),
        odd_p.mul_add(p3, odd_q.mul_add(q3, m5)),
    ]
}

/// Writes `B^T x B` of a register of channels: product `k` to `to + k * plane`.
///
/// # Safety
/// The CPU has the set of `L`; a register can be read `channel` after every pixel and written at all those places.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[inline(always)]
pub(super) unsafe fn input<L: Lanes>(pixels: &[*const f32; PRODUCTS], channel: usize, to: *mut f32, plane: usize) {
    // SAFETY: the caller vouches for the set, the pixels and the places.
    unsafe {
        let mut columns = [[L::splat(0.0); IN]; IN];
        for (s, column) in columns.iter_mut().enumerate() {
            for (r, value) in column.iter_mut().enumerate() {
                *value = L::load(pixels[r * IN + s].add(channel));
            }
            *column = input_column(*column);
        }
        for r in 0..IN {
            let row: [L; IN] = std::array::from_fn(|s| columns[s][r]);
            for (s, value) in input_column(row).into_iter().enumerate() {
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
pub(super) unsafe fn output<L: Lanes>(from: *const f32, plane: usize, bias: L) -> [[L; OUT]; OUT] {
    // SAFETY: the caller vouches for the set and the places.
    unsafe {
        let mut columns = [[bias; OUT]; IN];
        for (s, column) in columns.iter_mut().enumerate() {
            let mut products = [bias; IN];
            for (r, value) in products.iter_mut().enumerate() {
                *value = L::load(from.add((r * IN + s) * plane));
            }
            *column = output_column(products);
        }
        let mut rows = [[bias; OUT]; OUT];
        for (r, row) in rows.iter_mut().enumerate() {
            let products = output_column(std::array::from_fn(|s| columns[s][r]));
            for s in 0..OUT {
                row[s] = products[s].add(bias);
            }
        }
        rows
    }
}
