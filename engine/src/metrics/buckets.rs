//! Many keys by falling value, without a sorted copy of them: parts are distributed by a leading digit where they are, on all
//! threads; the keys of one digit are gathered and sorted only when they are asked for, in a buffer that stays in the cache.

use rayon::prelude::*;

/// Leading digits.
const DIGITS: usize = 1 << 12;

/// Keys that are distributed together; as many fit twice into the second cache.
const PART: usize = 1 << 17;

/// Fewer keys are sorted by comparison.
const SMALL: usize = 1 << 9;

/// Keys, part by part in the order of their leading digits, and how far they have been asked for.
pub(super) struct Buckets<'a> {
    keys: &'a [u32],
    least: u32,
    /// Bits below the leading digit of what a key is above the least one.
    low: u32,
    /// Where the keys of each digit end in each part.
    ends: Vec<Vec<u32>>,
    /// The digit that is looked at, how many keys have a higher one, and how many have it.
    digit: usize,
    above: usize,
    size: usize,
    /// Its keys by rising value, once they are wanted.
    sorted: Vec<u32>,
    spare: Vec<u32>,
}

impl<'a> Buckets<'a> {
    /// Puts the keys of each part in the order of their digits.
    pub fn new(keys: &'a mut [u32]) -> Self {
        let range = |part: &[u32]| part.iter().fold((u32::MAX, 0), |(a, b), k| (a.min(*k), b.max(*k)));
        let widest = |(a, b): (u32, u32), (c, d): (u32, u32)| (a.min(c), b.max(d));
        let (least, most) = keys.par_chunks(PART).map(range).reduce(|| (u32::MAX, 0), widest);
        let bits = u32::BITS - most.saturating_sub(least).leading_zeros();
        let low = bits.saturating_sub(DIGITS.trailing_zeros());
        let distributed = |spare: &mut Vec<u32>, part: &mut [u32]| {
            spare.clear();
            spare.extend_from_slice(part);
            distribute(spare, part, DIGITS, |key| ((key - least) >> low) as usize)
        };
        let ends = keys.par_chunks_mut(PART).map_init(Vec::new, distributed).collect();
        Self { keys, least, low, ends, digit: DIGITS, above: 0, size: 0, sorted: Vec::new(), spare: Vec::new() }
    }

    /// The keys of a digit, part by part.
    fn parts(&self, digit: usize) -> impl Iterator<Item = &[u32]> {
        let start = move |ends: &[u32]| digit.checked_sub(1).map_or(0, |before| ends[before]) as usize;
        self.keys.chunks(PART).zip(&self.ends).map(move |(part, ends)| &part[start(ends)..ends[digit] as usize])
    }

    /// Looks at the next lower digit.
    fn step(&mut self) {
        self.above += self.size;
        self.digit -= 1;
        self.size = self.parts(self.digit).map(<[u32]>::len).sum();
        self.sorted.clear();
    }

    /// Sorts the keys of the digit that is looked at, unless they are.
    fn sort(&mut self) {
        if self.sorted.len() < self.size {
            let mut sorted = std::mem::take(&mut self.sorted);
            self.parts(self.digit).for_each(|part| sorted.extend_from_slice(part));
            sort(&mut sorted, &mut self.spare, self.least, self.low);
            self.sorted = sorted;
        }
    }

    /// How many keys are not below `key`; it must not rise from call to call.
    pub fn at_least(&mut self, key: u32) -> usize {
        let Some(beyond) = key.checked_sub(self.least) else { return self.keys.len() };
        let digit = (beyond >> self.low) as usize;
        while self.digit > digit {
            self.step();
        }
        if self.digit < digit {
            return self.above;
        }
        self.sort();
        self.above + self.size - self.sorted.partition_point(|k| *k < key)
    }

    /// Each key that there is, and how often, by falling key.
    pub fn falling(mut self) -> impl Iterator<Item = (u32, u32)> {
        std::iter::from_fn(move || {
            while self.sorted.is_empty() {
                if self.digit == 0 {
                    return None;
                }
                self.step();
                self.sort();
            }
            let key = self.sorted.pop()?;
            let mut count = 1;
            while self.sorted.pop_if(|k| *k == key).is_some() {
                count += 1;
            }
            Some((key, count))
        })
    }
}

/// Sorts keys that differ in the low `bits` of what they are above the least one, by two digits, the lower one first.
fn sort(keys: &mut [u32], spare: &mut Vec<u32>, least: u32, bits: u32) {
    if keys.len() < SMALL {
        return keys.sort_unstable();
    }
    spare.resize(keys.len(), 0);
    let low = bits.div_ceil(2);
    let digit = |key: u32, from: u32, bits: u32| ((key - least) >> from & ((1 << bits) - 1)) as usize;
    distribute(keys, spare, 1 << low, |key| digit(key, 0, low));
    distribute(spare, keys, 1 << (bits - low), |key| digit(key, low, bits - low));
}

/// Writes the keys by rising digit, those of one in the order they come; returns where each digit ends.
fn distribute(from: &[u32], to: &mut [u32], digits: usize, digit: impl Fn(u32) -> usize) -> Vec<u32> {
    let mut next = vec![0; digits];
    from.iter().for_each(|k| next[digit(*k)] += 1);
    let mut before = 0;
    for next in &mut next {
        before += std::mem::replace(next, before);
    }
    for key in from {
        let next = &mut next[digit(*key)];
        to[*next as usize] = *key;
        *next += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few and many keys, of a narrow and of the widest range, in parts that are not whole.
    #[test]
    fn keys_come_in_the_order_of_a_sort() {
        for (n, shift) in [(0, 0), (1, 0), (1000, 31), (300_001, 0), (300_001, 8), (300_001, 24)] {
            let mut state = 1u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state ^ state >> 16) >> shift
            };
            let mut keys: Vec<u32> = (0..n).map(|_| next()).collect();
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            let runs: Vec<(u32, u32)> = sorted.chunk_by(|a, b| a == b).rev().map(|r| (r[0], r.len() as u32)).collect();
            assert!(Buckets::new(&mut keys).falling().eq(runs), "{n} keys, {shift}");
            let mut buckets = Buckets::new(&mut keys);
            for key in [u32::MAX].into_iter().chain(sorted.iter().rev().step_by(997).copied()).chain([0]) {
                let below = sorted.partition_point(|k| *k < key);
                assert_eq!(buckets.at_least(key), sorted.len() - below, "{n} keys, {shift}, at least {key}");
            }
        }
    }
}
