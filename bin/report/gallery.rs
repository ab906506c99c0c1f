//! Pictures of test images beside their anomaly maps.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use hotad_engine::data::files;
use hotad_engine::data::names::make_distinct;
use hotad_engine::data::picture::{Mask, Picture};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_models::AnomalyMap;
use hotad_models::evaluate::Verdict;
use hotad_models::model::Model;

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

/// The galleries of a report.
pub struct Gallery<'a> {
    folder: &'a Path,
    model: &'a Model,
    /// Most images of each.
    images: usize,
    /// Names of overlays by image.
    names: HashMap<&'a Path, String>,
}

impl<'a> Gallery<'a> {
    /// Of some of the images of an evaluation; overlays are also written as files into a folder.
    pub fn new(folder: &'a Path, model: &'a Model, verdicts: &'a [Verdict], images: usize) -> Self {
        let name = |v: &Verdict| format!("{}_{}", v.item.kind, stem(&v.item.path));
        let mut names: Vec<String> = verdicts.iter().map(name).collect();
        make_distinct(names.iter_mut());
        let names = verdicts.iter().map(|v| v.item.path.as_path()).zip(names).collect();
        Self { folder, model, images, names }
    }

    /// The map of a verdict, computed again: evaluating keeps none.
    fn map_of(&self, verdict: &Verdict) -> Result<AnomalyMap> {
        let spec = self.model.detector.image();
        let picture = files::read(&verdict.item.path, spec, self.model.roi.as_ref())?;
        let images = Tensor::new(picture.values, &[1, spec.height, spec.width, spec.channels])?;
        let map = self.model.score(&images)?.swap_remove(0).map;
        self.model.map_at(map, verdict.size)
    }

    /// Image and overlay side by side; the overlay is also written as a file of its own.
    fn figure(&self, verdict: &Verdict) -> Result<Html> {
        let item = &verdict.item;
        let picture = Picture::read(&item.path)?;
        let width = picture.height.max(picture.width).div_ceil(SIDE);
        let truth = Mask::of_item(item, picture.height, picture.width)?;
        let left = embed(overlay::outlined(picture.clone(), &truth, width))?;
        let overlay = overlay::overlay(picture, &self.map_of(verdict)?, &self.model.calibration);
        overlay.write_png(&self.folder.join(format!("{}.png", self.names[item.path.as_path()])))?;
        let dice = verdict.overlap.map(|o| format!(", Dice {:.3}", o.dice())).unwrap_or_default();
        Ok(Html::of(
            r#"<figure><div class="pair"><img alt="image" src="{}"><img alt="anomaly map" src="{}"></div><figcaption>{} / {}: score {}{}</figcaption></figure>"#,
            &[&left, &embed(overlay)?, &item.kind, &stem(&item.path), &format!("{:.3e}", verdict.score), &dice],
        ))
    }

    /// A heading and the first images; nothing where there are none.
    pub fn section(&self, title: &str, about: &str, verdicts: &[&Verdict]) -> Result<Html> {
        if verdicts.is_empty() {
            return Ok(Html::default());
        }
        let figures: Html = verdicts.iter().take(self.images).map(|v| self.figure(v)).collect::<Result<_>>()?;
        Ok(Html::of(r#"<h2>{}</h2><p>{}</p><div class="gallery">{}</div>"#, &[&title, &about, &figures]))
    }
}
