//! What happens inside a model, for some images (LEA-Net, figure 5; I3AD, figures 4 and 5).

use hotad_engine::data::files;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_models::evaluate::ScoredImage;
use hotad_models::explanation::{Explanation, Illustration};
use hotad_models::model::Model;
use hotad_models::sweep::Curve;

use super::gallery::{embed, stem};
use super::html::Html;

/// Defective images that are shown when none are named.
const CLEAREST: usize = 3;

/// `KIND/NAME` of an image.
fn name_of(image: &ScoredImage) -> String {
    format!("{}/{}", image.item.kind, stem(&image.item.path))
}

/// `KIND/FILE.EXT` of an image.
fn file_of(image: &ScoredImage) -> String {
    let file = image.item.path.file_name().unwrap_or_default();
    format!("{}/{}", image.item.kind, file.to_string_lossy())
}

/// The image of a name, with the ending of its file where others have the same name.
fn find<'a>(all: &[&'a ScoredImage], name: &str) -> Result<&'a ScoredImage> {
    if let Some(image) = all.iter().find(|v| file_of(v) == name) {
        return Ok(image);
    }
    let named: Vec<&ScoredImage> = all.iter().copied().filter(|v| name_of(v) == name).collect();
    let refuse = |reason: String| Err(Error::Config(format!("--explain {name}: {reason}")));
    match named[..] {
        [one] => Ok(one),
        [] => {
            let example = all.first().map(|v| name_of(v)).unwrap_or_default();
            refuse(format!("no such image was evaluated; names are KIND/NAME or KIND/FILE.EXT, e.g. {example}"))
        }
        [first, second, ..] => {
            refuse(format!("several images have that name; name {} or {}", file_of(first), file_of(second)))
        }
    }
}

/// The images of these names; without names the clearest defects and the most suspicious good image.
pub fn chosen<'a>(
    defective: &[&'a ScoredImage],
    good: &[&'a ScoredImage],
    all: &[&'a ScoredImage],
    names: &[String],
) -> Result<Vec<&'a ScoredImage>> {
    if names.is_empty() {
        return Ok(defective.iter().take(CLEAREST).chain(good.iter().take(1)).copied().collect());
    }
    names.iter().map(|name| find(all, name)).collect()
}

/// Curves, and a table for each image: steps across, what they do down.
pub fn section(model: &Model, scored: &[&ScoredImage], curves: &[Curve]) -> Result<Html> {
    let spec = model.detector.image();
    let explainable = model.explainable()?;
    let Explanation { heading, text } = explainable.explanation()?;
    let mut html = Html::of(r#"<h2>{}</h2><p>{}</p><div class="row">"#, &[&heading, &text]);
    for chart in distinct(curves.iter().map(|c| c.chart)) {
        let lines: Vec<&Curve> = curves.iter().filter(|c| c.chart == chart).collect();
        html.add(super::card(&format!("Image AUROC by {chart}"), super::charts::sweep(chart, &lines)));
    }
    html.push("</div>", &[]);
    for image in scored {
        let picture = files::read(&image.item.path, spec, model.roi.as_ref())?;
        let images = Tensor::new(picture.values.clone(), &[1, spec.height, spec.width, spec.channels])?;
        let recolours = model.detector.as_recolouring();
        let recoloured = recolours.map(|r| r.recoloured(&images)).transpose()?.unwrap_or_default();
        let score = model.score(&images)?.swap_remove(0);
        let overlay = crate::overlay::overlay(picture.clone(), &score.map, &model.calibration);
        html.push("<h3>{}: score {}</h3>", &[&file_of(image), &format!("{:.3}", image.score)]);
        let shown =
            [("image", Some(picture)), ("recoloured", recoloured.into_iter().next()), ("anomaly map", Some(overlay))];
        let (mut titles, mut pictures) = (Html::default(), Html::default());
        for (title, picture) in shown.into_iter().filter_map(|(title, picture)| Some((title, picture?))) {
            titles.push("<th>{}</th>", &[&title]);
            pictures.push(r#"<td><img alt="{}" src="{}"></td>"#, &[&title, &embed(picture)?]);
        }
        let inner = table(&explainable.explain(&images)?.swap_remove(0))?;
        html.push(
            r#"<div class="inside card"><table><tr><th></th>{}</tr><tr><td></td>{}</tr></table>{}</div>"#,
            &[&titles, &pictures, &inner],
        );
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

fn table(illustrations: &[Illustration]) -> Result<Html> {
    let columns = distinct(illustrations.iter().map(|i| i.column.as_str()));
    let head: Html = columns.iter().map(|c| Html::of("<th>{}</th>", &[c])).collect();
    let mut html = Html::of("<table><tr><th></th>{}</tr>", &[&head]);
    for row in distinct(illustrations.iter().map(|i| i.row.as_str())) {
        html.push("<tr><th>{}</th>", &[&row]);
        for column in &columns {
            let cell = illustrations.iter().find(|i| i.row == row && i.column == *column);
            let picture = cell.map(|i| embed(i.picture.clone())).transpose()?.unwrap_or_default();
            html.push(r#"<td><img alt="{}, {}" src="{}"></td>"#, &[&row, column, &picture]);
        }
        html.push("</tr>", &[]);
    }
    html.push("</table>", &[]);
    Ok(html)
}
