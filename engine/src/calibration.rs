//! Thresholds from held-out normal images.
//!
//! The image threshold is conformal (Vovk, Gammerman and Shafer 2005, section 2.2): at a false-alarm rate r it is the
//! ceil((n + 1)(1 - r))-th smallest of n held-out normal scores. A new normal image that is exchangeable with them scores above
//! it with a probability of r at most, whatever the distribution. Photos of one part are not exchangeable with those of another:
//! each group weighs the same, shared by its photos (hierarchical conformal prediction: Lee, Barber and Willett 2023), and n counts
//! groups. Held-out images of a training have had a say in it (early stopping, settings that are chosen), so that the rate is kept
//! nearly; exactly it is kept by calibrating on new images. Where n is too small for r the largest score is taken, and
//! 1 / (n + 1) is what can be promised. An image is an anomaly, and a pixel defective, when its value is *above* its threshold.
//!
//! A raw score becomes a calibrated one by a logistic curve that is 0.5 at the threshold.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// Thresholds and the normal scores they come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Image scores above this are anomalies.
    pub image_threshold: f32,
    /// Pixels of the anomaly map above this are defective.
    pub pixel_threshold: f32,
    /// Share of normal images that may be called anomalies.
    pub image_false_alarm_rate: f64,
    /// Share that the held-out images can promise: the one above, or more where they are too few for it. 0 where it is not known:
    /// in files of earlier versions, and for a threshold that was fitted to labelled images.
    #[serde(default)]
    pub promised_false_alarm_rate: f64,
    /// How the pixel threshold was found.
    pub pixel_rule: String,
    /// Median of the pixels of held-out normal maps: where the scale of pictures of maps begins.
    #[serde(default)]
    pub normal_pixel: f32,
    /// How the image threshold was found.
    #[serde(default)]
    pub image_rule: String,
    /// Held-out normal images.
    pub images: usize,
    /// Groups of photos of one part that they fall into.
    #[serde(default)]
    pub groups: usize,
    /// 101 quantiles (0 % to 100 %) of their scores.
    pub score_quantiles: Vec<f32>,
    /// What to mind about these thresholds.
    pub warnings: Vec<String>,
}

/// Number (from 1) of the conformal threshold among sorted normal scores with their groups, and the rate that it promises. A
/// score weighs 1 / ((g + 1) size of its group), g groups; the threshold is the first at which the weights add up to 1 - rate.
/// Without such, it is the last, which promises 1 / (g + 1).
fn conformal_rank(sorted: &[(f32, usize)], rate: f64) -> (usize, f64) {
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    sorted.iter().for_each(|(_, group)| *sizes.entry(*group).or_default() += 1);
    let groups = (sizes.len() + 1) as f64;
    let mut sum = 0.0;
    for (i, (_, group)) in sorted.iter().enumerate() {
        sum += 1.0 / (groups * sizes[group] as f64);
        // Sums of reciprocals are a little off in binary.
        if sum >= 1.0 - rate - 1e-9 {
            return (i + 1, rate);
        }
    }
    (sorted.len(), 1.0 / groups)
}

/// Quantile `q` in 0..=1 of sorted values, linear between order statistics. 0 without values.
pub fn quantile(sorted: &[f32], q: f64) -> f32 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let low = at as usize;
    let high = (low + 1).min(last);
    let part = at - low as f64;
    (f64::from(sorted[low]) * (1.0 - part) + f64::from(sorted[high]) * part) as f32
}

impl Calibration {
    /// Fails for numbers that no calibration gives; says which.
    ///
    /// # Errors
    /// A threshold or quantile that is not finite, quantiles that fall or are not 101, a rate outside 0..1.
    pub fn check(&self) -> Result<(), String> {
        let numbers = [
            ("image_threshold", self.image_threshold),
            ("pixel_threshold", self.pixel_threshold),
            ("normal_pixel", self.normal_pixel),
        ];
        for (name, value) in numbers {
            if !value.is_finite() {
                return Err(format!("{name} is not finite"));
            }
        }
        let (rate, promised) = (self.image_false_alarm_rate, self.promised_false_alarm_rate);
        let fits = rate > 0.0 && rate < 1.0 && (0.0..1.0).contains(&promised);
        if !fits {
            return Err(format!("a false-alarm rate of {rate}, {promised} promised"));
        }
        let rises = self.score_quantiles.is_sorted() && self.score_quantiles.iter().all(|q| q.is_finite());
        match self.score_quantiles.len() {
            101 if rises => Ok(()),
            101 => Err("quantiles of normal scores that do not rise".into()),
            count => Err(format!("{count} quantiles of normal scores instead of 101")),
        }
    }

    /// Image threshold and quantiles from the scores of held-out normals, each with the group of photos of one part that it is
    /// of.
    pub fn of_scores(mut scores: Vec<(f32, usize)>, false_alarm_rate: f64) -> Self {
        scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let n = scores.len();
        let groups = scores.iter().map(|(_, group)| group).collect::<HashSet<_>>().len();
        let (rank, promised) = conformal_rank(&scores, false_alarm_rate);
        let mut warnings = Vec::new();
        if promised > false_alarm_rate {
            let parts = if groups < n { format!(" of {groups} parts") } else { String::new() };
            warnings.push(format!(
                "{n} held-out normal images{parts} can promise a false-alarm rate of {promised:.3} at best, not \
                 {false_alarm_rate}: the threshold is their largest score; hold out more, or calibrate on more normal \
                 images"
            ));
        }
        let values: Vec<f32> = scores.iter().map(|(score, _)| *score).collect();
        Self {
            image_threshold: rank.checked_sub(1).map_or(0.0, |i| values[i]),
            image_false_alarm_rate: false_alarm_rate,
            promised_false_alarm_rate: promised,
            image_rule: format!("conformal, number {rank} of {n} held-out normal scores"),
            images: n,
            groups,
            score_quantiles: (0..=100).map(|i| quantile(&values, f64::from(i) / 100.0)).collect(),
            warnings,
            ..Self::default()
        }
    }

    /// A pixel on the scale of pictures of maps: 0 at the median of normal pixels and below, 0.5 at the pixel threshold, 1 as far
    /// above it again.
    pub fn pictured(&self, pixel: f32) -> f32 {
        let spread = (self.pixel_threshold - self.normal_pixel).max(1e-9);
        (0.5 + 0.5 * (pixel - self.pixel_threshold) / spread).clamp(0.0, 1.0)
    }

    /// 1 / (1 + exp(-(score - threshold) / spread)), the spread being the distance between the median of
    /// normal scores and the threshold: 0.5 at the threshold, 0.27 for that median where it lies below.
    pub fn calibrated(&self, score: f32) -> f32 {
        self.calibrated_at(score, self.image_threshold)
    }

    /// [`Calibration::calibrated`] for another image threshold.
    pub fn calibrated_at(&self, score: f32, threshold: f32) -> f32 {
        let median = self.score_quantiles.get(50).copied().unwrap_or(0.0);
        let spread = (threshold - median).abs().max(1e-6);
        1.0 / (1.0 + (-(score - threshold) / spread).exp())
    }
}

/// The largest values of a stream, enough of them for one upper quantile.
#[derive(Debug)]
pub struct UpperQuantile {
    keep: usize,
    total: usize,
    rate: f64,
    largest: Vec<f32>,
}

impl UpperQuantile {
    /// For the quantile 1 - `rate` of `expected` values.
    pub fn new(rate: f64, expected: usize) -> Self {
        let keep = (rate * expected as f64).ceil() as usize + 2;
        Self { keep, total: 0, rate, largest: Vec::with_capacity(2 * keep) }
    }

    /// Takes more values. Memory: twice what the quantile needs.
    pub fn extend(&mut self, values: &[f32]) {
        for part in values.chunks(self.keep) {
            self.total += part.len();
            self.largest.extend(part);
            if self.largest.len() > self.keep {
                self.largest.select_nth_unstable_by(self.keep - 1, |a, b| b.total_cmp(a));
                self.largest.truncate(self.keep);
            }
        }
    }

    /// The value that a share of `rate` at most lies above: 0 of no values.
    pub fn value(mut self) -> f32 {
        self.largest.sort_unstable_by(|a, b| b.total_cmp(a));
        let Some(last) = self.total.checked_sub(1) else { return 0.0 };
        let above = (self.rate * self.total as f64) as usize;
        self.largest[above.min(last).min(self.largest.len() - 1)]
    }
}
