//! Tiles term by term, for sets without instructions for them.

use half::bf16;

use super::{Lane, Operands, Products, ROW, ROWS, Sums};
use crate::conv::micro::NR;

/// # Safety
/// As for [`super::Unit::run`].
pub(super) unsafe fn tile(products: Products, o: &Operands, windows: usize, panels: usize, sums: &mut Sums) {
    for window in 0..windows {
        for panel in 0..panels {
            for pixel in 0..o.pixels {
                let mut lanes = o.starts[panel];
                for (number, run) in o.runs.iter().enumerate() {
                    // SAFETY: the bytes of a run lie in its pieces, and the rows of each in the panel; the caller vouches for
                    // both.
                    let (bytes, rows) = unsafe {
                        let from = o.windows[window].add(pixel * o.stride + run);
                        let rows = o.panels[panel].add(number * o.pieces * ROWS);
                        (std::slice::from_raw_parts(from, o.run), std::slice::from_raw_parts(rows, o.pieces * ROWS))
                    };
                    let terms = bytes.chunks(ROW / NR).zip(rows);
                    terms.for_each(|(bytes, row)| add(products, bytes, &row.0, &mut lanes));
                }
                sums.0[window][panel][pixel] = lanes;
            }
        }
    }
}

/// Adds up to four bytes of terms.
fn add(products: Products, bytes: &[u8], row: &[u8; ROW], lanes: &mut Lane) {
    for (lane, weights) in lanes.iter_mut().zip(row.chunks_exact(ROW / NR)) {
        *lane = match products {
            Products::Int8 => {
                let product = |(x, w): (&u8, &u8)| i32::from(*x) * i32::from(*w as i8);
                bytes.iter().zip(weights).map(product).fold(*lane as i32, i32::wrapping_add) as u32
            }
            Products::Int16 => unreachable!("made and multiplied with AVX2"),
            Products::Bf16 => {
                let value = |pair: &[u8]| bf16::from_ne_bytes([pair[0], pair[1]]).to_f32();
                let pairs = bytes.chunks_exact(2).zip(weights.chunks_exact(2));
                pairs.fold(f32::from_bits(*lane), |sum, (x, w)| sum + value(x) * value(w)).to_bits()
            }
        };
    }
}
