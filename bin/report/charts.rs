//! Curves and histograms as inline SVG.

use std::fmt::Write;

use hotad_engine::metrics::ranking::Ranking;
use hotad_models::sweep::Curve;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 20.0;
/// Shortest step of a drawn curve, in units of its axes.
const STEP: f64 = 0.002;
/// Bars of the histogram.
const BARS: usize = 30;

/// An SVG under construction, in units of its axes.
struct Plot {
    svg: String,
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    fn new(title: &str, labels: (&str, &str), x: (f64, f64), y: (f64, f64)) -> Self {
        let mut plot = Self { svg: String::new(), x, y };
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        // Writing to a String cannot fail; the results below are dropped for that reason.
        let _ = write!(plot.svg, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#);
        for i in 0..=4 {
            let part = f64::from(i) / 4.0;
            let (vx, vy) = (x.0 + part * (x.1 - x.0), y.0 + part * (y.1 - y.0));
            let (px, py) = plot.at(vx, vy);
            let _ = write!(
                plot.svg,
                r#"<path class="grid" d="M{px:.1} {TOP}V{bottom}M{LEFT} {py:.1}H{right}"/><text x="{px:.1}" y="{:.1}" text-anchor="middle">{}</text><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                bottom + 14.0,
                tick(vx),
                LEFT - 5.0,
                py + 4.0,
                tick(vy)
            );
        }
        let _ = write!(
            plot.svg,
            r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text><text class="label" transform="translate(11 {:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            labels.0,
            (TOP + bottom) / 2.0,
            labels.1
        );
        plot
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let px = LEFT + (x - self.x.0) / (self.x.1 - self.x.0).max(1e-12) * (WIDTH - LEFT - RIGHT);
        let py = HEIGHT - BOTTOM - (y - self.y.0) / (self.y.1 - self.y.0).max(1e-12) * (HEIGHT - BOTTOM - TOP);
        (px, py)
    }

    fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let places: Vec<String> =
            points.iter().map(|(x, y)| self.at(*x, *y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(self.svg, r#"<polyline class="{class}" points="{}"/>"#, places.join(" "));
    }

    fn bar(&mut self, from: f64, to: f64, height: f64, class: &str) {
        let ((x0, y), (x1, base)) = (self.at(from, height), self.at(to, self.y.0));
        let _ = write!(
            self.svg,
            r#"<rect class="{class}" x="{x0:.1}" y="{y:.1}" width="{:.1}" height="{:.1}"/>"#,
            (x1 - x0 - 0.5).max(0.5),
            base - y
        );
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// A short number for an axis.
fn tick(v: f64) -> String {
    if v.fract() == 0.0 || v.abs() >= 100.0 {
        format!("{v:.0}")
    } else if v.abs() < 0.01 {
        format!("{v:.1e}")
    } else if v.abs() < 0.1 {
        format!("{v:.3}")
    } else {
        format!("{v:.2}")
    }
}

/// Leaves out points that lie within a fraction of a pixel of the last one drawn.
fn thin(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for p in points {
        if kept.last().is_none_or(|k| (p.0 - k.0).abs() + (p.1 - k.1).abs() >= STEP) {
            kept.push(p);
        }
        last = Some(p);
    }
    kept.extend(last);
    kept
}

/// ROC curve; empty without both classes.
pub fn roc(ranking: &Ranking) -> String {
    let (p, n) = ranking.classes();
    if p == 0 || n == 0 {
        return String::new();
    }
    let rest =
        ranking.points().iter().map(|q| (q.false_positives as f64 / n as f64, q.true_positives as f64 / p as f64));
    let mut plot = Plot::new("ROC curve", ("false positive rate", "true positive rate"), (0.0, 1.0), (0.0, 1.0));
    plot.line(&[(0.0, 0.0), (1.0, 1.0)], "chance");
    plot.line(&thin(std::iter::once((0.0, 0.0)).chain(rest)), "curve");
    plot.finish()
}

/// Precision over recall; empty without positives.
pub fn precision_recall(ranking: &Ranking) -> String {
    let (p, _) = ranking.classes();
    if p == 0 {
        return String::new();
    }
    let point = |tp: u64, fp: u64| (tp as f64 / p as f64, tp as f64 / (tp + fp).max(1) as f64);
    let points = ranking.points().iter().map(|q| point(q.true_positives, q.false_positives));
    let mut plot = Plot::new("Precision-recall curve", ("recall", "precision"), (0.0, 1.0), (0.0, 1.0));
    plot.line(&thin(points), "curve");
    plot.finish()
}

/// Scores of both classes and the threshold.
pub fn histogram(scores: &[(f32, bool)], threshold: f32) -> String {
    let all = scores.iter().map(|(s, _)| f64::from(*s)).chain([f64::from(threshold)]);
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let width = ((high - low) / BARS as f64).max(1e-12);
    let mut counts = [[0u32; 2]; BARS];
    for (score, defective) in scores {
        let bar = (((f64::from(*score) - low) / width) as usize).min(BARS - 1);
        counts[bar][usize::from(*defective)] += 1;
    }
    let tallest = counts.iter().map(|c| c[0] + c[1]).max().unwrap_or(1).max(1);
    let mut plot = Plot::new("Histogram of scores", ("score", "images"), (low, high), (0.0, f64::from(tallest)));
    for (i, [good, bad]) in counts.iter().enumerate() {
        let (from, to) = (low + i as f64 * width, low + (i + 1) as f64 * width);
        if good + bad > 0 {
            plot.bar(from, to, f64::from(good + bad), "bad");
            plot.bar(from, to, f64::from(*good), "good");
        }
    }
    let t = f64::from(threshold);
    plot.line(&[(t, 0.0), (t, f64::from(tallest))], "threshold");
    plot.finish()
}

/// AUROC along a setting, up to two lines with a key.
pub fn sweep(setting: &str, lines: &[&Curve]) -> String {
    let points = || lines.iter().flat_map(|l| l.points.iter().copied());
    if points().next().is_none() {
        return String::new();
    }
    let low = |v: f64| (v * 20.0).floor() / 20.0;
    let (left, right) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (x, _)| (l.min(x), h.max(x)));
    let bottom = points().map(|(_, y)| low(y)).fold(1.0, f64::min).min(0.95);
    let mut plot = Plot::new("Image AUROC", (setting, "image AUROC"), (left, right), (bottom, 1.0));
    let mut key = String::new();
    for ((line, class), colour) in lines.iter().zip(["curve", "curve other"]).zip(["var(--blue)", "var(--red)"]) {
        plot.line(&line.points, class);
        // Writing to a String cannot fail.
        let _ = write!(key, r#"<i style="background:{colour}"></i>{}"#, line.name);
    }
    format!(r#"{}<p class="key">{key}</p>"#, plot.finish())
}
