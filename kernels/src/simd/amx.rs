//! Tiles of Intel AMX: registers of up to 16 rows of 64 bytes, and products of two of them.
//!
//! A tile of sums has `rows` rows of 16 values. A tile of left operands has as many rows of 64 bytes, one of right
//! operands 16 rows of 64 bytes: row `k` holds the terms `k` of 16 columns, two 16-bit floats or four bytes of each.
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
//!
//! The compiler does not know these registers, so that what one function leaves in them is there for the next.

use std::arch::asm;
use std::sync::OnceLock;

/// Rows of a tile at most.
pub(crate) const ROWS: usize = 16;
/// Bytes of a row.
pub(crate) const ROW: usize = 64;

/// Whether the CPU multiplies tiles of 16-bit brain floats and of bytes, and the system lets this process use them.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

/// CPUID, leaf 7: AMX-BF16, AMX-TILE, AMX-INT8. Operands are converted by AVX512_BF16, which all such CPUs have.
fn has_instructions() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const WANTED: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & WANTED == WANTED
        && std::arch::is_x86_feature_detected!("avx512bf16")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// Asks Linux to keep the tiles of this process's threads when it switches between them (`arch_prctl`).
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let answer: i64;
    // SAFETY: a system call that reads no memory of this process; the kernel changes rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => answer, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer == 0
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// What the tiles of a thread look like (palette 1), as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each tile.
    widths: [u16; 16],
    rows: [u8; 16],
}

/// The tiles of this thread, until it is dropped: sums 0 to 3 (row, column: 00, 01, 10, 11), left operands 4 and 5, right
/// operands 6 and 7.
pub(crate) struct Tiles(());

impl Tiles {
    /// Tiles of sums and left operands of `rows` rows, between 1 and [`ROWS`].
    ///
    /// # Safety
    /// [`is_available`].
    pub unsafe fn new(rows: usize) -> Self {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], widths: [0; 16], rows: [0; 16] };
        configuration.widths[..8].fill(ROW as u16);
        configuration.rows[..6].fill(rows.clamp(1, ROWS) as u8);
        configuration.rows[6..8].fill(ROWS as u8);
        // SAFETY: 64 bytes are read; the caller vouches for the instructions.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever made this vouched for the instructions. The tiles are zero afterwards, so that a switch of threads
        // has none to keep.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Reads a tile, rows `$stride` bytes apart.
macro_rules! load {
    ($tile:literal, $from:expr, $stride:expr) => {
        std::arch::asm!(concat!("tileloadd tmm", $tile, ", [{0} + {1}]"), in(reg) $from, in(reg) $stride,
            options(nostack, readonly))
    };
}

/// Adds the products of two tiles to a third.
macro_rules! multiply {
    ($instruction:literal, $sums:literal, $left:literal, $right:literal) => {
        std::arch::asm!(concat!($instruction, " tmm", $sums, ", tmm", $left, ", tmm", $right), options(nostack, nomem))
    };
}

/// Writes a tile, rows [`ROW`] bytes apart.
macro_rules! store {
    ($tile:literal, $to:expr) => {
        std::arch::asm!(concat!("tilestored [{0} + {1}], tmm", $tile), in(reg) $to, in(reg) $crate::simd::amx::ROW,
            options(nostack))
    };
}
pub(crate) use {load, multiply, store};
