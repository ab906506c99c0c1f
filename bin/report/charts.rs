//! Curves and histograms as inline SVG.

use hotad_engine::metrics::ranking::Ranking;
use hotad_models::sweep::Curve;

use super::html::Html;

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
pub struct Plot {
    svg: Html,
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    /// Axes from and to these values.
    pub fn new(title: &str, labels: (&str, &str), x: (f64, f64), y: (f64, f64)) -> Self {
        let svg = Html::of(r#"<svg viewBox="0 0 {} {}" role="img" aria-label="{}">"#, &[&WIDTH, &HEIGHT, &title]);
        let mut plot = Self { svg, x, y };
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for i in 0..=4 {
            let part = f64::from(i) / 4.0;
            let (vx, vy) = (x.0 + part * (x.1 - x.0), y.0 + part * (y.1 - y.0));
            let (px, py) = plot.at(vx, vy);
            let grid = format!("M{px:.1} {TOP}V{bottom}M{LEFT} {py:.1}H{right}");
            plot.svg.push(r#"<path class="grid" d="{}"/>"#, &[&grid]);
            plot.text("", (px, bottom + 14.0), "middle", &tick(vx));
            plot.text("", (LEFT - 5.0, py + 4.0), "end", &tick(vy));
        }
        plot.text("label", ((LEFT + right) / 2.0, HEIGHT - 6.0), "middle", labels.0);
        let turned = format!("translate(11 {:.1}) rotate(-90)", (TOP + bottom) / 2.0);
        let label = r#"<text class="label" transform="{}" text-anchor="middle">{}</text>"#;
        plot.svg.push(label, &[&turned, &labels.1]);
        plot
    }

    fn text(&mut self, class: &'static str, (x, y): (f64, f64), anchor: &'static str, text: &str) {
        let (x, y) = (format!("{x:.1}"), format!("{y:.1}"));
        let template = r#"<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>"#;
        self.svg.push(template, &[&class, &x, &y, &anchor, &text]);
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let px = LEFT + (x - self.x.0) / (self.x.1 - self.x.0).max(1e-12) * (WIDTH - LEFT - RIGHT);
        let py = HEIGHT - BOTTOM - (y - self.y.0) / (self.y.1 - self.y.0).max(1e-12) * (HEIGHT - BOTTOM - TOP);
        (px, py)
    }

    fn places(&self, points: &[(f64, f64)]) -> String {
        let place = |(x, y): &(f64, f64)| {
            let (x, y) = self.at(*x, *y);
            format!("{x:.1},{y:.1}")
        };
        points.iter().map(place).collect::<Vec<_>>().join(" ")
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let places = self.places(points);
        self.svg.push(r#"<polyline class="{}" points="{}"/>"#, &[&class, &places]);
    }

    /// A line through points in a colour.
    pub fn coloured(&mut self, points: &[(f64, f64)], colour: &str) {
        let places = self.places(points);
        self.svg.push(r#"<polyline class="curve" style="stroke:{}" points="{}"/>"#, &[&colour, &places]);
    }

    fn bar(&mut self, from: f64, to: f64, height: f64, class: &str) {
        let ((x0, y), (x1, base)) = (self.at(from, height), self.at(to, self.y.0));
        let [x, y, width, height] = [x0, y, (x1 - x0 - 0.5).max(0.5), base - y].map(|v| format!("{v:.1}"));
        let template = r#"<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>"#;
        self.svg.push(template, &[&class, &x, &y, &width, &height]);
    }

    /// The whole picture.
    pub fn finish(mut self) -> Html {
        self.svg.push("</svg>", &[]);
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
pub fn roc(ranking: &Ranking) -> Html {
    let (p, n) = ranking.classes();
    if p == 0 || n == 0 {
        return Html::default();
    }
    let rest =
        ranking.points().iter().map(|q| (q.false_positives as f64 / n as f64, q.true_positives as f64 / p as f64));
    let mut plot = Plot::new("ROC curve", ("false positive rate", "true positive rate"), (0.0, 1.0), (0.0, 1.0));
    plot.line(&[(0.0, 0.0), (1.0, 1.0)], "chance");
    plot.line(&thin(std::iter::once((0.0, 0.0)).chain(rest)), "curve");
    plot.finish()
}

/// Precision over recall; empty without positives.
pub fn precision_recall(ranking: &Ranking) -> Html {
    let (p, _) = ranking.classes();
    if p == 0 {
        return Html::default();
    }
    let point = |tp: u64, fp: u64| (tp as f64 / p as f64, tp as f64 / (tp + fp).max(1) as f64);
    let points = ranking.points().iter().map(|q| point(q.true_positives, q.false_positives));
    let mut plot = Plot::new("Precision-recall curve", ("recall", "precision"), (0.0, 1.0), (0.0, 1.0));
    plot.line(&thin(points), "curve");
    plot.finish()
}

/// Scores of both classes and the threshold.
pub fn histogram(scores: &[(f32, bool)], threshold: f32) -> Html {
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

/// Class and colour of each line of a chart.
const LINES: [(&str, &str); 6] = [
    ("curve", "var(--blue)"),
    ("curve other", "var(--red)"),
    ("curve third", "var(--green)"),
    ("curve fourth", "var(--amber)"),
    ("curve fifth", "var(--violet)"),
    ("curve sixth", "var(--soft)"),
];

/// AUROC along a setting, up to six lines with a key.
pub fn sweep(setting: &str, lines: &[&Curve]) -> Html {
    let points = || lines.iter().flat_map(|l| l.points.iter().copied());
    if points().next().is_none() {
        return Html::default();
    }
    let low = |v: f64| (v * 20.0).floor() / 20.0;
    let (left, right) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (x, _)| (l.min(x), h.max(x)));
    let bottom = points().map(|(_, y)| low(y)).fold(1.0, f64::min).min(0.95);
    let mut plot = Plot::new("Image AUROC", (setting, "image AUROC"), (left, right), (bottom, 1.0));
    let mut key = Html::default();
    for (line, (class, colour)) in lines.iter().zip(LINES) {
        plot.line(&line.points, class);
        key.push(r#"<i style="background:{}"></i>{}"#, &[&colour, &line.name]);
    }
    Html::of(r#"{}<p class="key">{}</p>"#, &[&plot.finish(), &key])
}
