//! Sums of a tile: up to two windows of pixels by two panels of channels.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::super::micro::NR;
use super::panels::{ROW, ROWS, Row};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, amx::Tiles, isa};

/// Bits of the sums of [`NR`] channels: of f32 or i32.
pub(super) type Lane = [u32; NR];

/// Sums of two windows by two panels, pixel by pixel: `[window][panel][pixel]`.
#[repr(C, align(64))]
pub(super) struct Sums(pub [[[Lane; ROWS]; 2]; 2]);

/// What a tile reads.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// The first pixel of each window, and how many bytes lie between pixels.
    pub windows: [*const u8; 2],
    pub stride: usize,
    /// Pixels of a window, at most [`ROWS`].
    pub pixels: usize,
    /// Where the runs begin, in bytes from a pixel, and how many bytes each has.
    pub runs: &'a [usize],
    pub run: usize,
    /// The first row of each panel.
    pub panels: [*const Row; 2],
    /// Pieces of a run.
    pub pieces: usize,
    /// What the sums of each panel begin with.
    pub starts: &'a [Lane; 2],
}

/// Kinds of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Products {
    /// Pairs of bf16, summed in f32.
    Bf16,
    /// Four unsigned by signed bytes, summed in i32.
    Int8,
    /// Pairs of bytes that are widened to 16 bits, summed in i32: where no instruction takes four without saturating.
    Int16,
}

impl Products {
    /// How the instruction set in use multiplies bytes.
    pub fn of_bytes() -> Self {
        #[cfg(target_arch = "x86_64")]
        if isa() >= Isa::Avx2 && !has_vnni() {
            return Self::Int16;
        }
        Self::Int8
    }
}

/// Whether the instruction set in use has VNNI: then it takes bytes four at a time.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_vnni() -> bool {
    isa() >= Isa::Avx512 && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// Tiles of one shape, as the instruction set in use computes them.
pub(super) enum Unit {
    #[cfg(target_arch = "x86_64")]
    Amx(Tiles),
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Unit {
    /// For windows of so many pixels. Weights are laid out for the set in use then; should another one be chosen later, they are still
    /// multiplied, if slowly.
    ///
    /// # Panics
    /// When pixels are more than [`ROWS`].
    pub fn new(products: Products, pixels: usize) -> Self {
        assert!(pixels <= ROWS, "pixels of a window");
        #[cfg(target_arch = "x86_64")]
        match (isa(), products) {
            // Made on a CPU with AVX2 alone.
            (_, Products::Int16) => return Self::Avx2,
            // SAFETY: `isa` answers Amx only where it is available.
            (Isa::Amx, _) => return Self::Amx(unsafe { Tiles::new(pixels) }),
            (_, Products::Int8) if has_vnni() => return Self::Vnni,
            _ => {}
        }
        let _ = products;
        Self::Plain
    }

    /// The sums of some windows and panels, each 1 or 2.
    ///
    /// # Safety
    /// Every pixel of these windows has [`ROW`] bytes for each
    /// piece from the beginning of each run on, and every panel its rows.
    pub unsafe fn run(&self, products: Products, o: &Operands, windows: usize, panels: usize, sums: &mut Sums) {
        // SAFETY: the caller vouches for all of it.
        unsafe {
            match (self, products) {
                #[cfg(target_arch = "x86_64")]
                (Self::Amx(_), _) => amx::tile(products, o, windows, panels, sums),
                #[cfg(target_arch = "x86_64")]
                (Self::Vnni, Products::Int8) => vnni::tile(o, windows, panels, sums),
                #[cfg(target_arch = "x86_64")]
                (Self::Avx2, Products::Int16) => avx2::tile(o, windows, panels, sums),
                _ => plain::tile(products, o, windows, panels, sums),
            }
        }
    }
}
