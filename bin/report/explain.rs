//! What happens inside a model, for some images (LEA-Net, figure 5; I3AD, figures 4 and 5).

use std::fmt::Write;

use hotad_engine::data::picture::Picture;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_models::detector::{Explanation, Illustration};
use hotad_models::evaluate::Verdict;
use hotad_models::model::Model;
use hotad_models::sweep::Curve;

use super::{embed, escape};

/// Defective images that are shown when none are named.
const CLEAREST: usize = 3;

/// `KIND/NAME` of an image.
fn name_of(verdict: &Verdict) -> String {
    format!("{}/{}", verdict.item.kind, verdict.item.path.file_stem().unwrap_or_default().to_string_lossy())
}

/// The images of these names; without names the clearest defects and the most suspicious good image.
pub fn chosen<'a>(
    defective: &[&'a Verdict],
    good: &[&'a Verdict],
    all: &[&'a Verdict],
    names: &[String],
) -> Result<Vec<&'a Verdict>> {
    if names.is_empty() {
        return Ok(defective.iter().take(CLEAREST).chain(good.iter().take(1)).copied().collect());
    }
    let find = |name: &String| {
        let found = all.iter().copied().find(|v| name_of(v) == *name);
        found.ok_or_else(|| {
            let example = all.first().map(|v| name_of(v)).unwrap_or_default();
            Error::Config(format!("--explain {name}: no such image was evaluated; names are KIND/NAME, e.g. {example}"))
        })
    };
    names.iter().map(find).collect()
}

/// Curves, and a table for each image: steps across, what they do down.
pub fn section(model: &Model, verdicts: &[&Verdict], curves: &[Curve]) -> Result<String> {
    let spec = model.detector.image();
    let Explanation { heading, text } = model.detector.explanation()?;
    let mut html = format!("<h2>{heading}</h2><p>{text}</p><div class=\"row\">");
    for chart in distinct(curves.iter().map(|c| c.chart)) {
        let lines: Vec<&Curve> = curves.iter().filter(|c| c.chart == chart).collect();
        html.push_str(&super::card(&format!("Image AUROC by {chart}"), &super::charts::sweep(chart, &lines)));
    }
    html.push_str("</div>");
    for verdict in verdicts {
        let picture = Picture::read(&verdict.item.path)?.fit(spec)?;
        let images = Tensor::new(picture.values.clone(), &[1, spec.height, spec.width, spec.channels])?;
        let recoloured = model.detector.recoloured(&images)?.unwrap_or_default();
        let score = model.score(&images)?.swap_remove(0);
        let threshold = model.calibration.pixel_threshold;
        let overlay = crate::output::overlay(&picture, &score.map, threshold);
        // Writing to a String cannot fail.
        let _ = write!(html, "<h3>{}: score {:.3}</h3>", escape(&name_of(verdict)), verdict.score);
        html.push_str("<div class=\"inside card\"><table><tr><th></th>");
        let shown =
            [("image", Some(picture)), ("recoloured", recoloured.into_iter().next()), ("anomaly map", Some(overlay))];
        let mut pictures = String::new();
        for (title, picture) in shown.into_iter().filter_map(|(title, picture)| Some((title, picture?))) {
            let _ = write!(html, "<th>{title}</th>");
            let _ = write!(pictures, "<td><img alt=\"{title}\" src=\"{}\"></td>", embed(picture)?);
        }
        let _ = write!(html, "</tr><tr><td></td>{pictures}</tr></table>");
        html.push_str(&table(&model.detector.explain(&images)?.swap_remove(0))?);
        html.push_str("</div>");
    }
    Ok(html)
}

/// Distinct values in the order they come.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    values.fold(Vec::new(), |mut seen, v| {
        if !seen.contains(&v) {
            seen.push(v);
        }
        seen
    })
}

fn table(illustrations: &[Illustration]) -> Result<String> {
    let columns = distinct(illustrations.iter().map(|i| i.column.as_str()));
    let head: String = columns.iter().map(|c| format!("<th>{}</th>", escape(c))).collect();
    let mut html = format!("<table><tr><th></th>{head}</tr>");
    for row in distinct(illustrations.iter().map(|i| i.row.as_str())) {
        let _ = write!(html, "<tr><th>{}</th>", escape(row)); // to a String: cannot fail
        for column in &columns {
            let cell = illustrations.iter().find(|i| i.row == row && i.column == *column);
            let picture = cell.map(|i| embed(i.picture.clone())).transpose()?.unwrap_or_default();
            let _ = write!(html, "<td><img alt=\"{}, {}\" src=\"{picture}\"></td>", escape(row), escape(column));
        }
        html.push_str("</tr>");
    }
    Ok(html + "</table>")
}
