//! Thresholds from held-out normal images.
//!
//! The image threshold is the quantile of normal image scores at 1 - (false-alarm rate), with linear
//! interpolation between order statistics; the pixel threshold likewise over all pixels of normal
//! maps. A raw score becomes a calibrated one by a logistic curve that is 0.5 at the threshold.

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
    /// How the pixel threshold was found.
    pub pixel_rule: String,
    /// Held-out normal images.
    pub images: usize,
    /// 101 quantiles (0 % to 100 %) of their scores.
    pub score_quantiles: Vec<f32>,
    /// What to mind about these thresholds.
    pub warnings: Vec<String>,
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
        for (name, value) in [("image_threshold", self.image_threshold), ("pixel_threshold", self.pixel_threshold)] {
            if !value.is_finite() {
                return Err(format!("{name} is not finite"));
            }
        }
        let rate = self.image_false_alarm_rate;
        if !(rate > 0.0 && rate < 1.0) {
            return Err(format!("a false-alarm rate of {rate}"));
        }
        let rises = self.score_quantiles.is_sorted() && self.score_quantiles.iter().all(|q| q.is_finite());
        match self.score_quantiles.len() {
            101 if rises => Ok(()),
            101 => Err("quantiles of normal scores that do not rise".into()),
            count => Err(format!("{count} quantiles of normal scores instead of 101")),
        }
    }

    /// Image threshold and quantiles from the scores of held-out normals.
    pub fn of_scores(mut scores: Vec<f32>, false_alarm_rate: f64) -> Self {
        scores.sort_unstable_by(f32::total_cmp);
        let mut warnings = Vec::new();
        if (scores.len() as f64) * false_alarm_rate < 1.0 {
            warnings.push(format!(
                "{} held-out normal images are few for a false-alarm rate of {false_alarm_rate}: the threshold is near \
                 their largest score",
                scores.len()
            ));
        }
        Self {
            image_threshold: quantile(&scores, 1.0 - false_alarm_rate),
            image_false_alarm_rate: false_alarm_rate,
            images: scores.len(),
            score_quantiles: (0..=100).map(|i| quantile(&scores, f64::from(i) / 100.0)).collect(),
            warnings,
            ..Self::default()
        }
    }

    /// 1 / (1 + exp(-(score - threshold) / spread)), the spread being that between the median of
    /// normal scores and the threshold: 0.5 at the threshold, about 0.27 for a typical normal image.
    pub fn calibrated(&self, score: f32) -> f32 {
        let median = self.score_quantiles.get(50).copied().unwrap_or(0.0);
        let spread = (self.image_threshold - median).max(1e-6);
        1.0 / (1.0 + (-(score - self.image_threshold) / spread).exp())
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

    /// The quantile, linear between order statistics.
    pub fn value(mut self) -> f32 {
        self.largest.sort_unstable_by(|a, b| b.total_cmp(a));
        if self.total == 0 {
            return 0.0;
        }
        let from_top = self.rate * (self.total - 1) as f64;
        let low = from_top as usize;
        let at = |i: usize| f64::from(self.largest[i.min(self.largest.len() - 1)]);
        let part = from_top - low as f64;
        (at(low) * (1.0 - part) + at(low + 1) * part) as f32
    }
}
