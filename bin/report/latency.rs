//! The page of `hotad bench`: latency over time, its distribution, and the numbers.

use hdrhistogram::Histogram;

use super::charts::Plot;
use super::html::Html;
use super::{card, page};
use crate::latency::{Latencies, Summary};

/// The whole page.
pub fn write(summary: &Summary, latencies: &Latencies, deadline: Option<f64>) -> Html {
    let [total, ..] = &latencies.stages;
    let mut body = Html::of(
        "<h1>{}</h1><p>Latency of frames that arrive at even times, whether or not the one before is done.</p>",
        &[&summary.title()],
    );
    body.push(r#"<div class="row">"#, &[]);
    body.add(card("Latency over time", over_time(latencies, deadline)));
    body.add(card("Distribution", distribution(total, deadline)));
    let counts: Html =
        summary.counts().iter().map(|(k, v)| Html::of("<tr><td>{}</td><td>{}</td></tr>", &[k, v])).collect();
    body.push("</div>", &[]);
    // As wide as the page: at some widths half of it does not hold six columns.
    body.add(card("Percentiles", percentiles(summary)));
    body.add(card("Counts", Html::of("<table>{}</table>", &[&counts])));
    page(&format!("hotad bench: {}", summary.title()), &body)
}

fn percentiles(summary: &Summary) -> Html {
    let rows: Html = summary
        .percentiles()
        .iter()
        .map(|cells| {
            let cells: Html = cells.iter().map(|cell| Html::of("<td>{}</td>", &[cell])).collect();
            Html::of("<tr>{}</tr>", &[&cells])
        })
        .collect();
    Html::of(r#"<table class="compare">{}</table>"#, &[&rows])
}

/// Longest and mean latency of each slice of the run.
fn over_time(latencies: &Latencies, deadline: Option<f64>) -> Html {
    let slices = || latencies.slices.iter().filter(|s| s.frames > 0);
    let top = slices().map(|s| s.max_ms).chain(deadline).fold(0.0, f64::max);
    let frames: u64 = slices().map(|s| s.frames).sum();
    let mut plot = Plot::new("Latency over time", ("frame", "ms"), (0.0, frames.max(1) as f64), (0.0, 1.05 * top));
    let mut seen = 0;
    let (mut longest, mut mean) = (Vec::new(), Vec::new());
    for slice in slices() {
        let middle = seen as f64 + slice.frames as f64 / 2.0;
        longest.push((middle, slice.max_ms));
        mean.push((middle, slice.mean_ms));
        seen += slice.frames;
    }
    plot.line(&longest, "curve other");
    plot.line(&mean, "curve");
    if let Some(ms) = deadline {
        plot.line(&[(0.0, ms), (frames as f64, ms)], "threshold");
    }
    let deadline =
        deadline.map(|_| Html::of(r#"<i style="background:var(--ink)"></i>deadline"#, &[])).unwrap_or_default();
    let key = r#"{}<p class="key"><i style="background:var(--blue)"></i>mean<i style="background:var(--red)"></i>longest{}</p>"#;
    Html::of(key, &[&plot.finish(), &deadline])
}

/// Latency over the share of frames that take longer, both in powers of ten.
fn distribution(total: &Histogram<u64>, deadline: Option<f64>) -> Html {
    let nines = (total.len().max(10) as f64).log10().ceil();
    let steps = 200;
    let points: Vec<(f64, f64)> = (0..=steps)
        .map(|i| nines * f64::from(i) / f64::from(steps))
        .map(|tens| (tens, total.value_at_quantile(1.0 - 10f64.powf(-tens)) as f64 / 1e6))
        .collect();
    let top = points.iter().map(|p| p.1).chain(deadline).fold(0.0, f64::max);
    let labels = ("frames that take longer: 1 in 10 to the power of", "ms");
    let mut plot = Plot::new("Distribution of latencies", labels, (0.0, nines), (0.0, 1.05 * top));
    plot.line(&points, "curve");
    if let Some(ms) = deadline {
        plot.line(&[(0.0, ms), (nines, ms)], "threshold");
    }
    plot.finish()
}
