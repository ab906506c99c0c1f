//! Metrics of a ranking: AUROC, average precision, F1-max, and the curves behind them.

/// Counts at one threshold: how many of either class score at least this much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// A distinct score.
    pub threshold: f32,
    /// Positives with `score >= threshold`.
    pub true_positives: u64,
    /// Negatives with `score >= threshold`.
    pub false_positives: u64,
}

/// Cumulative counts over the distinct scores, descending.
#[derive(Clone, Debug)]
pub struct Ranking {
    points: Vec<Point>,
    positives: u64,
    negatives: u64,
}

impl Ranking {
    /// Ranks scores; `positive` says which are of the positive (defective) class.
    pub fn new(scores: impl IntoIterator<Item = (f32, bool)>) -> Self {
        Self::weighted(scores.into_iter().map(|(score, positive)| (score, positive, 1)))
    }

    /// Ranks scores of which each counts a number of times.
    pub fn weighted(scores: impl IntoIterator<Item = (f32, bool, u32)>) -> Self {
        let mut sorted: Vec<(f32, bool, u32)> = scores.into_iter().filter(|(.., times)| *times > 0).collect();
        sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut positives, mut negatives) = (0, 0);
        let mut points: Vec<Point> = Vec::new();
        for (threshold, positive, times) in sorted {
            if positive {
                positives += u64::from(times)
            } else {
                negatives += u64::from(times)
            }
            let point = Point { threshold, true_positives: positives, false_positives: negatives };
            match points.last_mut() {
                Some(last) if last.threshold == threshold => *last = point,
                _ => points.push(point),
            }
        }
        Self { points, positives, negatives }
    }

    /// From counts at each distinct score, descending.
    pub fn of_points(points: Vec<Point>) -> Self {
        let (positives, negatives) = points.last().map_or((0, 0), |p| (p.true_positives, p.false_positives));
        Self { points, positives, negatives }
    }

    /// Counts at each distinct score, descending.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Number of positives and of negatives.
    pub fn classes(&self) -> (u64, u64) {
        (self.positives, self.negatives)
    }

    /// Area under the ROC curve; a tie between the classes counts half. `None` without both classes.
    pub fn auroc(&self) -> Option<f64> {
        if self.positives == 0 || self.negatives == 0 {
            return None;
        }
        let (mut area, mut before) = (0.0, (0, 0));
        for p in &self.points {
            let width = (p.false_positives - before.1) as f64;
            area += width * (p.true_positives + before.0) as f64 * 0.5;
            before = (p.true_positives, p.false_positives);
        }
        Some(area / (self.positives as f64 * self.negatives as f64))
    }

    /// Average precision: sum over distinct thresholds of (R_i - R_(i-1)) P_i, no interpolation.
    /// `None` without positives.
    pub fn average_precision(&self) -> Option<f64> {
        if self.positives == 0 {
            return None;
        }
        let (mut sum, mut before) = (0.0, 0);
        for p in &self.points {
            let precision = p.true_positives as f64 / (p.true_positives + p.false_positives) as f64;
            sum += (p.true_positives - before) as f64 * precision;
            before = p.true_positives;
        }
        Some(sum / self.positives as f64)
    }

    /// Largest F1 of `score >= t` over the distinct scores, and the lowest such t. `None` without
    /// positives. Over pixels this is the largest Dice.
    pub fn f1_max(&self) -> Option<(f64, f32)> {
        if self.positives == 0 {
            return None;
        }
        let f1 =
            |p: &Point| 2.0 * p.true_positives as f64 / (p.true_positives + p.false_positives + self.positives) as f64;
        self.points.iter().map(|p| (f1(p), p.threshold)).fold(None, |best: Option<(f64, f32)>, (f, t)| match best {
            Some((b, _)) if b > f => best,
            _ => Some((f, t)),
        })
    }
}
