//! Regions of MVTec LOCO (Bergmann et al., IJCV 2022): one mask for each defect of an image, whose pixel value names the kind of
//! defect, and `defects_config.json`, which says after how many pixels that kind counts as found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Item;
use super::decode;
use super::picture::Mask;
use crate::error::{Error, Result};
use crate::input_file;
use crate::metrics::region::DefectRegion;

/// The file that a LOCO data set has beside its images.
pub const CONFIG: &str = "defects_config.json";

/// One kind of defect.
#[derive(Clone, Debug, Deserialize)]
struct Defect {
    pixel_value: u8,
    saturation_threshold: f64,
    relative_saturation: bool,
}

/// Saturation by the pixel value of a mask.
#[derive(Clone, Debug)]
pub struct Saturations {
    path: PathBuf,
    by_value: BTreeMap<u8, Defect>,
}

impl Saturations {
    /// Reads the configuration of a data set.
    ///
    /// # Errors
    /// When it is missing or no such file.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(CONFIG);
        let refuse = |reason: String| Error::Data { path: path.clone(), reason };
        if !path.is_file() {
            let reason = "missing: saturation thresholds of a LOCO data set are looked up in it; copy it from the original data set";
            return Err(refuse(reason.into()));
        }
        let text = input_file::text(&path)?;
        let all: Vec<Defect> =
            serde_json::from_str(&text).map_err(|e| refuse(format!("not the list of defects of MVTec LOCO ({e})")))?;
        if let Some(bad) = all.iter().find(|d| d.saturation_threshold <= 0.0) {
            return Err(refuse(format!("the saturation threshold of value {} is not above 0", bad.pixel_value)));
        }
        Ok(Self { by_value: all.into_iter().map(|d| (d.pixel_value, d)).collect(), path })
    }

    /// The regions of an image of `height` x `width` pixels: one for each mask, whatever it is made of, after a change that
    /// its image has gone through.
    ///
    /// # Errors
    /// When a mask cannot be read, has another size than its image, holds several values, or one that the configuration
    /// does not know.
    pub fn regions(
        &self,
        item: &Item,
        (height, width): (usize, usize),
        changed: &dyn Fn(Mask) -> Mask,
    ) -> Result<Vec<DefectRegion>> {
        let region = |path: &PathBuf| -> Result<Option<DefectRegion>> {
            let refuse = |reason: String| Err(Error::Image { path: path.clone(), reason });
            let mask = decode::open(path)?;
            if (mask.height(), mask.width()) != (height, width) {
                let (h, w) = (mask.height(), mask.width());
                return refuse(format!("mask is {h}x{w} but its image is {height}x{width}"));
            }
            let values = mask.into_image().into_luma8().into_raw();
            let Some(&value) = values.iter().find(|v| **v > 0) else { return Ok(None) };
            if let Some(other) = values.iter().find(|v| **v > 0 && **v != value) {
                return refuse(format!("holds the values {value} and {other}; a mask is of one defect"));
            }
            let Some(defect) = self.by_value.get(&value) else {
                return refuse(format!("its pixel value {value} is not in {}", self.path.display()));
            };
            let mask = changed(Mask { height, width, defect: values.iter().map(|v| *v > 0).collect() });
            let pixels: Vec<u32> = (0..values.len() as u32).filter(|i| mask.defect[*i as usize]).collect();
            if pixels.is_empty() {
                return Ok(None);
            }
            let area = pixels.len() as f64;
            let saturation = match defect.relative_saturation {
                true => (defect.saturation_threshold * area).floor().max(1.0),
                false => defect.saturation_threshold.min(area),
            };
            Ok(Some(DefectRegion { pixels, saturation }))
        };
        let regions = item.masks.iter().map(region).collect::<Result<Vec<_>>>()?;
        Ok(regions.into_iter().flatten().collect())
    }
}
