//! Values of anomaly maps over held-out normal images, by which maps are brought to one scale.

use hotad_engine::calibration::{UpperQuantile, quantile};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::data::roi::Roi;
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::{Error, Result, interrupt};

/// Share of normal pixels above the upper value.
const ABOVE: f64 = 0.001;

/// Every so many pixels tell the median; a prime, so that they lie on no grid.
pub const STRIDE: usize = 61;

/// What normal pixels have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalPixels {
    /// The median.
    pub median: f32,
    /// The 99.9 % quantile.
    pub high: f32,
}

impl NormalPixels {
    /// Of the maps of images, those of a batch one after another, within their region of interest.
    ///
    /// # Errors
    /// When an image cannot be read, a value is not finite, what `maps` reports, or interruption.
    pub fn of(
        files: ImageFiles,
        spec: ImageSpec,
        batch: usize,
        maps: impl Fn(&Tensor) -> Result<Vec<f32>> + Send + Sync,
    ) -> Result<Self> {
        let inside = Inside::new(files.roi(), spec);
        let mut high = UpperQuantile::new(ABOVE, files.len() * inside.pixels());
        let mut some = Vec::new();
        for_all(&Images::new(files, spec), batch, |loaded| {
            interrupt::check()?;
            for map in pooled(|| maps(&loaded.images))?.chunks_exact(spec.height * spec.width) {
                if map.iter().any(|v| !v.is_finite()) {
                    let what = "training has diverged: anomaly maps of normal images are".into();
                    return Err(Error::Diverged { what, checkpoint: None });
                }
                let map = inside.of(map.to_vec());
                high.extend(&map);
                some.extend(map.iter().step_by(STRIDE));
            }
            Ok(())
        })?;
        some.sort_unstable_by(f32::total_cmp);
        Ok(Self { median: quantile(&some, 0.5), high: high.value() })
    }
}

/// The pixels of maps that lie inside of a region.
pub struct Inside {
    /// Whether each does; `None` where all do.
    flags: Option<Vec<bool>>,
    all: usize,
}

impl Inside {
    /// Of a region, for maps of this size.
    pub fn new(roi: Option<&Roi>, spec: ImageSpec) -> Self {
        let size = (spec.height, spec.width);
        let flags = roi.filter(|roi| !roi.is_rectangle()).map(|roi| roi.inside(size));
        Self { flags, all: spec.height * spec.width }
    }

    /// How many there are.
    pub fn pixels(&self) -> usize {
        self.flags.as_ref().map_or(self.all, |flags| flags.iter().filter(|flag| **flag).count())
    }

    /// Those of a map.
    pub fn of(&self, map: Vec<f32>) -> Vec<f32> {
        let Some(flags) = &self.flags else { return map };
        map.into_iter().zip(flags).filter(|(_, inside)| **inside).map(|(v, _)| v).collect()
    }
}
