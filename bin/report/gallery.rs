//! Pictures of test images beside their anomaly maps.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use base64::Engine;
use hotad_engine::data::names::make_distinct;
use hotad_engine::data::picture::{Mask, Picture};
use hotad_engine::{AtPath, Error, Result};
use hotad_models::AnomalyMap;
use hotad_models::evaluate::{Evaluation, ScoredImage};
use hotad_models::model::Model;

use super::csv;
use super::html::Html;
use crate::overlay;

/// Longest side of a picture in the report.
const SIDE: usize = 256;

/// A picture as a data URL, shrunk to the report's size.
pub fn embed(picture: Picture) -> Result<String> {
    let longest = picture.height.max(picture.width);
    let scale = |n: usize| if longest > SIDE { (n * SIDE / longest).max(1) } else { n };
    let (h, w) = (scale(picture.height), scale(picture.width));
    let small = picture.with_channels(3).resized(h, w)?;
    let bytes: Vec<u8> = small.values.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 88)
        .encode(&bytes, w as u32, h as u32, image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::Config(format!("report picture: {e}")))?;
    Ok(format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(jpeg)))
}

/// Name of an image without its ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names of overlays of images by kind and path, each name once.
fn names<'a>(images: impl Iterator<Item = (&'a str, &'a Path)>) -> Vec<String> {
    let mut names: Vec<String> = images.map(|(kind, path)| format!("{kind}_{}", stem(path))).collect();
    make_distinct(names.iter_mut());
    names
}

/// Removes the overlays of an earlier report from a folder, and no other file: they are of the images of its table.
pub fn remove_earlier(overlays: &Path, table: &Path) -> Result<()> {
    let lines = csv::read(&std::fs::read_to_string(table).unwrap_or_default());
    let Some((head, lines)) = lines.split_first() else { return Ok(()) };
    if *head != super::IMAGE_COLUMNS {
        return Ok(());
    }
    let earlier: HashSet<String> =
        names(lines.iter().filter_map(|fields| Some((fields.get(1)?.as_str(), Path::new(&fields[0])))))
            .into_iter()
            .map(|name| format!("{name}.png"))
            .collect();
    for entry in std::fs::read_dir(overlays).into_iter().flatten().flatten() {
        let known = entry.file_name().to_str().is_some_and(|name| earlier.contains(name));
        if known && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::remove_file(entry.path()).at(&entry.path())?;
        }
    }
    Ok(())
}

/// The galleries of a report.
pub struct Gallery<'a> {
    folder: &'a Path,
    model: &'a Model,
    /// Most images of each.
    images: usize,
    /// Names of overlays by image.
    names: HashMap<&'a Path, String>,
    /// Maps by image.
    maps: HashMap<&'a Path, &'a AnomalyMap>,
}

impl<'a> Gallery<'a> {
    /// Of some of the images of an evaluation; overlays are also written as files into a folder.
    pub fn new(folder: &'a Path, model: &'a Model, evaluation: &'a Evaluation, images: usize) -> Self {
        let paths = || evaluation.scored.iter().map(|v| v.item.path.as_path());
        let names = paths().zip(names(evaluation.scored.iter().map(|v| v.item.kind.as_str()).zip(paths()))).collect();
        Self { folder, model, images, names, maps: evaluation.maps.by_file() }
    }

    /// The map of an image at the size of its file.
    fn map_of(&self, image: &ScoredImage) -> Result<AnomalyMap> {
        let map = self.maps.get(image.item.path.as_path()).expect("evaluations keep the maps of their galleries");
        self.model.map_at((*map).clone(), image.size)
    }

    /// Image and overlay side by side; the overlay is also written as a file of its own.
    fn figure(&self, image: &ScoredImage) -> Result<Html> {
        let item = &image.item;
        let picture = Picture::read(&item.path)?;
        let width = picture.height.max(picture.width).div_ceil(SIDE);
        let truth = Mask::of_item(item, picture.height, picture.width)?;
        let left = embed(overlay::outlined(picture.clone(), &truth, width))?;
        let overlay = overlay::overlay(picture, &self.map_of(image)?, &self.model.calibration);
        overlay.write_png(&self.folder.join(format!("{}.png", self.names[item.path.as_path()])))?;
        let dice = image.overlap.map(|o| format!(", Dice {:.3}", o.dice())).unwrap_or_default();
        Ok(Html::of(
            r#"<figure><div class="pair"><img alt="image" src="{}"><img alt="anomaly map" src="{}"></div><figcaption>{} / {}: score {}{}</figcaption></figure>"#,
            &[&left, &embed(overlay)?, &item.kind, &stem(&item.path), &format!("{:.3e}", image.score), &dice],
        ))
    }

    /// A heading and the first images; nothing where there are none.
    pub fn section(&self, title: &str, about: &str, scored: &[&ScoredImage]) -> Result<Html> {
        if scored.is_empty() {
            return Ok(Html::default());
        }
        let figures: Html = scored.iter().take(self.images).map(|v| self.figure(v)).collect::<Result<_>>()?;
        Ok(Html::of(r#"<h2>{}</h2><p>{}</p><div class="gallery">{}</div>"#, &[&title, &about, &figures]))
    }
}
