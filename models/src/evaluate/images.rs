//! Metrics of image scores, images counting a number of times each.

use hotad_engine::metrics::ranking::Ranking;

use super::{Metrics, ScoredImage};

/// Metrics of image scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageMetrics {
    auroc: Option<f64>,
    ap: Option<f64>,
    f1_max: Option<f64>,
    f1: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
    false_alarm_rate: Option<f64>,
}

impl ImageMetrics {
    /// Their names, in the order of [`ImageMetrics::values`].
    pub const NAMES: [&str; 7] =
        ["image_auroc", "image_ap", "image_f1_max", "image_f1_at_threshold", "precision", "recall", "false_alarm_rate"];

    /// Of scored images that count so many times; what scores above the threshold is called an anomaly.
    pub fn new(scored: &[ScoredImage], times: &[u32], threshold: f32) -> Self {
        let ranking = Ranking::weighted(scored.iter().zip(times).map(|(v, t)| (v.score, v.item.defective, *t)));
        let count = |called: bool, defective: bool| {
            let some = scored.iter().zip(times);
            let some = some.filter(|(v, _)| v.item.defective == defective && (v.score > threshold) == called);
            some.map(|(_, t)| u64::from(*t)).sum::<u64>() as f64
        };
        let [hit, missed, alarm, quiet] =
            [(true, true), (false, true), (true, false), (false, false)].map(|(c, d)| count(c, d));
        let share = |part: f64, of: f64| (of > 0.0).then(|| part / of);
        Self {
            auroc: ranking.auroc(),
            ap: ranking.average_precision(),
            f1_max: ranking.f1_max().map(|(f, _)| f),
            f1: if hit + missed > 0.0 { share(2.0 * hit, 2.0 * hit + missed + alarm) } else { None },
            precision: share(hit, hit + alarm),
            recall: share(hit, hit + missed),
            false_alarm_rate: share(alarm, alarm + quiet),
        }
    }

    /// By the order of names.
    pub fn values(&self) -> [Option<f64>; 7] {
        [self.auroc, self.ap, self.f1_max, self.f1, self.precision, self.recall, self.false_alarm_rate]
    }

    /// Writes them into the metrics of an evaluation.
    pub fn fill(&self, metrics: &mut Metrics) {
        metrics.image_auroc = self.auroc;
        metrics.image_ap = self.ap;
        metrics.image_f1_max = self.f1_max;
        metrics.image_f1_at_threshold = self.f1;
        metrics.precision = self.precision;
        metrics.recall = self.recall;
        metrics.false_alarm_rate = self.false_alarm_rate;
    }
}
