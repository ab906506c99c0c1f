//! Tiles by AMX: per piece two loads of 16 rows for each operand, and four products of 16 x 16 sums.

use super::{Lane, Operands, Products, ROW, ROWS, Sums};
use crate::simd::amx::{load, multiply, store};

/// # Safety
/// As for [`super::Unit::run`], for tiles of AMX.
pub(super) unsafe fn tile(products: Products, o: &Operands, windows: usize, panels: usize, sums: &mut Sums) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        match (products, windows, panels) {
            (Products::Bf16, 2, 2) => bf16::<2, 2>(o, sums),
            (Products::Bf16, 2, _) => bf16::<2, 1>(o, sums),
            (Products::Bf16, _, 2) => bf16::<1, 2>(o, sums),
            (Products::Bf16, ..) => bf16::<1, 1>(o, sums),
            (Products::Int8, 2, 2) => int8::<2, 2>(o, sums),
            (Products::Int8, 2, _) => int8::<2, 1>(o, sums),
            (Products::Int8, _, 2) => int8::<1, 2>(o, sums),
            (Products::Int8, ..) => int8::<1, 1>(o, sums),
            (Products::Int16, ..) => unreachable!("multiplied with AVX2"),
        }
    }
}

/// Both kinds of products differ in one instruction.
macro_rules! products {
    ($name:ident, $instruction:literal) => {
        /// `W` windows by `P` panels.
        ///
        /// # Safety
        /// As for [`tile`].
        unsafe fn $name<const W: usize, const P: usize>(o: &Operands, sums: &mut Sums) {
            let mut panels = o.panels;
            // SAFETY: tiles have the shapes that `Tiles::new` has given them. Left operands are rows of a piece of each pixel,
            // right operands the rows of a piece of each panel, for which the caller vouches; sums begin with rows that all
            // are the one of `starts`, and go to places for so many.
            unsafe {
                load!("0", o.starts[0].as_ptr(), 0usize);
                if P == 2 {
                    load!("1", o.starts[1].as_ptr(), 0usize);
                }
                if W == 2 {
                    load!("2", o.starts[0].as_ptr(), 0usize);
                }
                if W == 2 && P == 2 {
                    load!("3", o.starts[1].as_ptr(), 0usize);
                }
                for run in o.runs {
                    for piece in 0..o.pieces {
                        let at = run + piece * ROW;
                        load!("6", panels[0], ROW);
                        load!("4", o.windows[0].add(at), o.stride);
                        multiply!($instruction, "0", "4", "6");
                        if P == 2 {
                            load!("7", panels[1], ROW);
                            multiply!($instruction, "1", "4", "7");
                        }
                        if W == 2 {
                            load!("5", o.windows[1].add(at), o.stride);
                            multiply!($instruction, "2", "5", "6");
                        }
                        if W == 2 && P == 2 {
                            multiply!($instruction, "3", "5", "7");
                        }
                        panels = panels.map(|panel| panel.wrapping_add(ROWS));
                    }
                }
                let mut at = |window: usize, panel: usize| -> *mut Lane { (&raw mut sums.0[window][panel]).cast() };
                store!("0", at(0, 0));
                if P == 2 {
                    store!("1", at(0, 1));
                }
                if W == 2 {
                    store!("2", at(1, 0));
                }
                if W == 2 && P == 2 {
                    store!("3", at(1, 1));
                }
            }
        }
    };
}

products!(bf16, "tdpbf16ps");
products!(int8, "tdpbusd");
