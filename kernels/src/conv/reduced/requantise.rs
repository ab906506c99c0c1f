//! Sums of products of bytes as the bytes that the next product takes.

use super::super::micro::{NR, load};
use super::Quantiser;
use crate::simd::Lanes;

/// `q = floor(clamp(f sum + b))` for each channel: `f` is the scale of the sums over that of the bytes, `b` the bias in steps, the
/// zero point and a half, so that ties go up. The bounds are those of the activation and of a byte. Source: Jacob et al. 2018,
/// equation 4 and section 2.4, with the factor in f32. Product and sum are rounded each on every set, so that all give the same bytes.
pub(in super::super) struct Requantiser {
    /// A value for each channel of all blocks.
    factors: Vec<f32>,
    shifts: Vec<f32>,
    /// Smallest and largest value before the fraction is cut off.
    bounds: (f32, f32),
}

impl Requantiser {
    /// From sums with these scales to the bytes of `to`; there are as many biases as scales.
    pub fn new(scales: &[f32], bias: &[f32], to: Quantiser, (least, most): (f32, f32)) -> Self {
        assert_eq!(scales.len(), bias.len(), "a bias for each scale");
        let step = |value: f32| value / to.scale + f32::from(to.zero) + 0.5;
        Self {
            factors: scales.iter().map(|scale| scale / to.scale).collect(),
            shifts: bias.iter().map(|bias| step(*bias)).collect(),
            bounds: (step(least).clamp(0.5, 255.5), step(most).clamp(0.5, 255.5)),
        }
    }

    /// The bytes of [`NR`] channels from channel `at` on, as the bits of the lanes.
    ///
    /// # Safety
    /// The CPU has the set of `L`, and there are so many channels.
    #[inline(always)]
    pub unsafe fn bits<L: Lanes, const V: usize>(&self, at: usize, sums: [L; V]) -> [L; V] {
        debug_assert!(at + NR <= self.factors.len());
        let mut bits = sums;
        // SAFETY: the caller vouches for set and channels.
        unsafe {
            let (least, most) = (L::splat(self.bounds.0), L::splat(self.bounds.1));
            let factors = load::<L, V>(self.factors.as_ptr().add(at));
            let shifts = load::<L, V>(self.shifts.as_ptr().add(at));
            for v in 0..V {
                bits[v] = sums[v].mul(factors[v]).add(shifts[v]).max(least).min(most).number_to_bits();
            }
        }
        bits
    }

    /// Channels of all blocks.
    pub fn channels(&self) -> usize {
        self.factors.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::InputRange;
    use crate::simd::{Isa, lanes_fn, select};

    lanes_fn! {
        fn bytes<L, V, R>(requantiser: &Requantiser, sums: &[f32], to: &mut [u8]) {
            // SAFETY: sixteen sums, channels and bytes; `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let bits = requantiser.bits::<L, V>(0, load(sums[..NR].as_ptr()));
                for (bits, to) in bits.into_iter().zip(to[..NR].chunks_exact_mut(L::WIDTH)) {
                    bits.store_u8(to.as_mut_ptr());
                }
            }
        }
    }

    lanes_fn! {
        fn stored<L>(bits: &[f32], bytes: &mut [u8], words: &mut [u16]) {
            for at in (0..NR).step_by(L::WIDTH) {
                // SAFETY: a register of sixteen values, bytes and words; `lanes_fn` runs this only on CPUs with the set of `L`.
                unsafe {
                    let bits = L::load(bits[at..at + L::WIDTH].as_ptr());
                    bits.store_u8(bytes[at..at + L::WIDTH].as_mut_ptr());
                    bits.store_u16(words[at..at + L::WIDTH].as_mut_ptr());
                }
            }
        }
    }

    #[test]
    fn every_set_stores_bytes() {
        let known: Vec<u8> = (0..NR).map(|i| (i * 17) as u8).collect();
        let bits: Vec<f32> = known.iter().map(|byte| f32::from_bits(u32::from(*byte))).collect();
        for isa in Isa::available() {
            select(isa).expect("it is available");
            let (mut bytes, mut words) = (vec![9; NR + 1], vec![9; NR + 1]);
            stored(&bits, &mut bytes, &mut words);
            assert_eq!((&bytes[..NR], bytes[NR]), (known.as_slice(), 9), "{isa:?}");
            assert!(
                words.iter().zip(&known).all(|(word, byte)| *word == u16::from(*byte)) && words[NR] == 9,
                "{isa:?}"
            );
        }
    }

    #[test]
    fn bytes_stand_for_the_values_of_sums() {
        let quantiser = Quantiser::new(InputRange::new(-1.0, 5.0).expect("finite"));
        let requantiser = Requantiser::new(&[0.01; NR], &[0.25; NR], quantiser, (0.0, 4.0));
        let sums: Vec<f32> = (0..NR).map(|i| 60.0 * i as f32 - 200.0).collect();
        let mut got = [0; NR];
        bytes(&requantiser, &sums, &mut got);
        for (byte, sum) in got.iter().zip(&sums) {
            let value = (f32::from(*byte) - f32::from(quantiser.zero)) * quantiser.scale;
            let wanted = (0.01 * sum + 0.25).clamp(0.0, 4.0);
            assert!((value - wanted).abs() <= 0.51 * quantiser.scale, "{sum}: {value}, not {wanted}");
        }
    }
}
