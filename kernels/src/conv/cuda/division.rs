//! Division by a number that is known before a kernel is launched, for numerators below 2^31.

use bytemuck::{Pod, Zeroable};

/// `Division` of division.cuh.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Division {
    magic: u32,
    shift: i32,
}

impl Division {
    /// ceil(2^(32 + shift) / d), where 2^(shift + 1) is the least power of two that is not below d.
    pub fn by(d: usize) -> Self {
        let d = d.max(1) as u64;
        if d == 1 {
            return Self { magic: 0, shift: -1 };
        }
        let shift = d.next_power_of_two().trailing_zeros() as i32 - 1;
        Self { magic: (1u64 << (32 + shift)).div_ceil(d) as u32, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::Division;

    /// As the kernel divides.
    fn divide(n: u32, d: Division) -> u32 {
        if d.shift < 0 { n } else { ((u64::from(n) * u64::from(d.magic)) >> 32 >> d.shift) as u32 }
    }

    #[test]
    fn divisions_are_exact_below_2_to_the_31() {
        let divisors = (1..2000).chain([4095, 4096, 4097, 65_535, 65_537, 1 << 20, (1 << 30) + 1, i32::MAX as usize]);
        for d in divisors {
            let by = Division::by(d);
            let near = |q: u32| (q * d as u32).saturating_sub(1)..=(q * d as u32).saturating_add(1);
            let last = i32::MAX as u32 / d as u32;
            let numerators = [0, 1, 2, last / 2, last].into_iter().flat_map(near).chain([i32::MAX as u32]);
            for n in numerators.filter(|n| *n <= i32::MAX as u32) {
                assert_eq!(divide(n, by), n / d as u32, "{n} / {d}");
            }
        }
    }
}
