//! Changes of bytes that readers of files go wrong with.

use rand::Rng;
use rand::seq::IndexedRandom;

/// Sizes, lengths and counts that arithmetic goes wrong with.
const NUMBERS: [u32; 12] = [0, 1, 7, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 22_000, 0x0001_0000, 0x7fff_ffff, 0xffff_ffff];

/// Changes bytes in one place; other files give it parts.
pub fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut impl Rng) {
    // Half of the changes hit the headers.
    let most = if rng.random() { bytes.len().min(64) } else { bytes.len() };
    let at = rng.random_range(0..=most);
    let length = rng.random_range(1..=64).min(bytes.len() - at);
    match rng.random_range(0..8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        2 if at < bytes.len() => bytes[at] = rng.random(),
        3 | 4 => {
            let number = NUMBERS.choose(rng).expect("some");
            let number = if rng.random() { number.to_le_bytes() } else { number.rotate_left(16).to_be_bytes() };
            let width = [1, 2, 4][rng.random_range(0..3)].min(length);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        5 if rng.random_bool(0.2) => bytes.truncate(at),
        5 => {
            let part = bytes[at..at + length].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, part.repeat(rng.random_range(1..=4)));
        }
        6 => drop(bytes.drain(at..at + length)),
        7 => {
            let other = others.choose(rng).expect("some");
            let from = rng.random_range(0..other.len());
            let end = (from + rng.random_range(1..=200)).min(other.len());
            bytes.splice(at..at + length, other[from..end].iter().copied());
        }
        _ => {}
    }
}
