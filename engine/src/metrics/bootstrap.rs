//! 95 % intervals of metrics by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over groups: photos of one part
//! are drawn together, as they are not independent. Groups with a defective image and groups without are drawn apart, as many of
//! each as there are, so that no resample lacks a class where both have groups of their own.

use rand::Rng;
use rayon::prelude::*;

use crate::random;

/// Resamples.
pub const RESAMPLES: u64 = 1000;

/// Share that an interval leaves out on either side.
const TAIL: f64 = 0.025;

/// Images by group: those of groups with a defective image, and the others.
pub struct Bootstrap {
    images: usize,
    strata: [Vec<Vec<usize>>; 2],
    seed: u64,
}

impl Bootstrap {
    /// Of images with their groups, and whether each is defective.
    pub fn new(groups: &[usize], defective: impl Iterator<Item = bool> + Clone, seed: u64) -> Self {
        let count = groups.iter().max().map_or(0, |most| most + 1);
        let mut members = vec![(Vec::new(), false); count];
        for (i, (group, defective)) in groups.iter().zip(defective).enumerate() {
            members[*group].0.push(i);
            members[*group].1 |= defective;
        }
        let (some, none): (Vec<_>, Vec<_>) = members.into_iter().filter(|m| !m.0.is_empty()).partition(|m| m.1);
        Self { images: groups.len(), strata: [some, none].map(|s| s.into_iter().map(|m| m.0).collect()), seed }
    }

    /// Groups that are drawn from.
    pub fn groups(&self) -> usize {
        self.strata.iter().map(Vec::len).sum()
    }

    /// How many times each image is in a resample.
    fn times(&self, resample: u64) -> Vec<u32> {
        let mut times = vec![0; self.images];
        let mut rng = random::stream(self.seed, "bootstrap", resample);
        for groups in self.strata.iter().filter(|s| !s.is_empty()) {
            for _ in 0..groups.len() {
                groups[rng.random_range(0..groups.len())].iter().for_each(|i| times[*i] += 1);
            }
        }
        times
    }

    /// Intervals of some metrics, each given for images that count a number of times; `None` for a metric that some resamples
    /// do not have, and for all where there are fewer than two groups to draw from on a side: a single one has no spread.
    pub fn intervals<const N: usize>(
        &self,
        metrics: impl Fn(&[u32]) -> [Option<f64>; N] + Sync,
    ) -> [Option<[f64; 2]>; N] {
        if self.strata.iter().any(|groups| groups.len() == 1) {
            return [None; N];
        }
        let all: Vec<[Option<f64>; N]> =
            (0..RESAMPLES).into_par_iter().map(|resample| metrics(&self.times(resample))).collect();
        std::array::from_fn(|metric| interval(all.iter().map(|m| m[metric]).collect()))
    }
}

/// The middle 95 % of some values.
fn interval(values: Option<Vec<f64>>) -> Option<[f64; 2]> {
    let mut values = values?;
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |share: f64| values[(share * last as f64).round() as usize];
    Some([at(TAIL), at(1.0 - TAIL)])
}
