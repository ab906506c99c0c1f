//! Which instruction set the loops run with: the widest of the CPU, or the one that `HOTAD_ISA` names.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Result, device_error};

/// An instruction set that the loops of this crate are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every CPU of this architecture has (SSE2 on x86-64, NEON on AArch64).
    Portable,
    /// AVX2 with FMA and half-precision conversion.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with BF16 and VNNI, and AMX with BF16 and INT8. What is multiplied in f32 runs as with AVX-512.
    Amx,
}

impl Isa {
    /// All of them, narrowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// The name that `HOTAD_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx512,
                Self::Amx => avx512 && super::amx::is_available(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// Those that this CPU has, narrowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }
}

/// Names of the sets that this CPU has.
fn names() -> String {
    Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// The set in use plus 1; 0 before the first loop.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// The instruction set that loops run with.
///
/// # Panics
/// When `HOTAD_ISA` names a set that [`check`] refuses.
#[inline]
pub fn isa() -> Isa {
    match CHOSEN.load(Ordering::Relaxed) {
        1 => Isa::Portable,
        2 => Isa::Avx2,
        3 => Isa::Avx512,
        4 => Isa::Amx,
        _ => choose(),
    }
}

#[cold]
fn choose() -> Isa {
    check().unwrap_or_else(|e| panic!("{e}"))
}

/// Chooses the instruction set, if none is chosen yet: the one that `HOTAD_ISA` names, else the widest.
///
/// # Errors
/// When `HOTAD_ISA` names no set, or one that the CPU does not have.
pub fn check() -> Result<Isa> {
    if CHOSEN.load(Ordering::Relaxed) != 0 {
        return Ok(isa());
    }
    let named = std::env::var_os("HOTAD_ISA").filter(|name| !name.is_empty());
    let chosen = match named {
        None => Isa::ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Isa::Portable),
        Some(name) => parse(&name.to_string_lossy())?,
    };
    select(chosen)?;
    Ok(chosen)
}

/// The set of a name.
fn parse(name: &str) -> Result<Isa> {
    match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
        Some(isa) => Ok(isa),
        None => device_error(format!("HOTAD_ISA={name:?} is no instruction set; this CPU has: {}", names())),
    }
}

/// Runs all loops from now on with one instruction set, whatever `HOTAD_ISA` says: for benches and tests.
///
/// # Errors
/// When the CPU does not have it.
pub fn select(isa: Isa) -> Result<()> {
    if !isa.is_available() {
        return device_error(format!("this CPU does not have the instruction set {}; it has: {}", isa.name(), names()));
    }
    CHOSEN.store(isa as u8 + 1, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_parsed() {
        for isa in Isa::ALL {
            assert_eq!(parse(isa.name()), Ok(isa));
        }
        let error = parse("avx").expect_err("no set is called so").to_string();
        assert!(error.contains("\"avx\"") && error.contains("portable"), "{error}");
    }

    #[test]
    fn a_set_that_the_cpu_does_not_have_is_refused() {
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            let error = select(isa).expect_err("this CPU does not have it").to_string();
            assert!(error.contains(isa.name()) && error.ends_with(&names()), "{error}");
        }
    }
}
