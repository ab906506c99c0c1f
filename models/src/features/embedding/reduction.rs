//! The linear map of joined channels: principal components, or a choice of channels.

use hotad_engine::Result;
use hotad_engine::data::files::ImageFiles;
use hotad_kernels::fusion::Projection;
use serde::{Deserialize, Serialize};

use super::{Embedding, Part};
use crate::features::pca::{Components, Covariance, Pca};

/// A linear map of joined channels.
pub(super) struct Linear {
    /// `[k][channels]`.
    pub components: Vec<f32>,
    /// `[channels]`.
    pub mean: Vec<f32>,
    pub projection: Projection,
}

/// How channels become fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// Principal components of all channels together.
    Global,
    /// Principal components of each extractor's channels, joined.
    Individual,
}

/// What is fitted to the joined channels.
#[derive(Clone, Copy, Debug)]
pub struct Reduction {
    /// Of which channels components are made.
    pub fusion: Fusion,
    /// How many are kept.
    pub keep: Components,
    /// Whether every extractor's channels get the same total variance before, so that none drowns the others by its scale.
    pub standardise: bool,
    /// Whether components get the same variance after: divided by `sqrt(variance + eps)`, eps a share of their mean
    /// variance that keeps those without any from growing out of rounding.
    pub whiten: bool,
}

/// `eps` of whitening, as a share of the mean variance.
const WHITEN_EPS: f64 = 1e-3;

impl Embedding {
    /// The linear map that follows joining, if one does: `[k][channels]` and what is subtracted before, `[channels]`.
    pub fn linear(&self) -> Option<(&[f32], &[f32])> {
        self.linear.as_ref().map(|l| (&l.components[..], &l.mean[..]))
    }

    /// Averages adjacent channels, so that `dimensions` are left; nothing where there are no more.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn shorten(&mut self, dimensions: usize) -> Result<()> {
        let channels: usize = self.channels().iter().sum();
        if channels <= dimensions {
            return Ok(());
        }
        let mut components = vec![0.0; dimensions * channels];
        for (i, row) in components.chunks_exact_mut(channels).enumerate() {
            let (first, end) = (i * channels / dimensions, ((i + 1) * channels).div_ceil(dimensions));
            row[first..end].fill(1.0 / (end - first) as f32);
        }
        self.set_linear(components, vec![0.0; channels])
    }

    /// Keeps some channels of those joined, in the given order.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn select(&mut self, kept: &[usize]) -> Result<()> {
        let channels: usize = self.channels().iter().sum();
        let mut components = vec![0.0; kept.len() * channels];
        for (row, channel) in components.chunks_exact_mut(channels).zip(kept) {
            row[*channel] = 1.0;
        }
        self.set_linear(components, vec![0.0; channels])
    }

    /// Fits principal components on the patches of images. Returns the share of variance that is kept.
    ///
    /// # Errors
    /// When an image cannot be read, or more components are asked for than there are channels.
    pub fn fit(&mut self, files: ImageFiles, reduction: Reduction) -> Result<f64> {
        let Reduction { fusion, keep, standardise, whiten } = reduction;
        let mut covariance = Covariance::new(&self.device);
        self.for_each(files, |x| covariance.add(&x))?;
        let variances = covariance.variances();
        let ranges = self.ranges();
        let mut scale = vec![1.0; variances.len()];
        if standardise {
            for &(first, end) in &ranges {
                let total: f64 = variances[first..end].iter().sum();
                scale[first..end].fill(if total > 0.0 { 1.0 / total.sqrt() } else { 1.0 });
            }
        }
        let channels = scale.len();
        let blocks = match fusion {
            Fusion::Global => vec![(0, channels)],
            Fusion::Individual => ranges,
        };
        let (mut components, mut kept) = (Vec::new(), 0.0);
        for (first, end) in blocks {
            let Pca { components: rows, variance, .. } =
                covariance.components((first, end), &scale[first..end], keep)?;
            kept += variance.iter().map(|v| f64::from(*v)).sum::<f64>();
            let total: f64 = variances[first..end].iter().zip(&scale[first..end]).map(|(v, s)| v * s * s).sum();
            let eps = (WHITEN_EPS * total / (end - first) as f64).max(f64::from(f32::MIN_POSITIVE));
            for (row, variance) in rows.chunks_exact(end - first).zip(variance) {
                let mut whole = vec![0.0; channels];
                let factor = if whiten { (f64::from(variance) + eps).sqrt().recip() } else { 1.0 };
                let scaled = row.iter().zip(&scale[first..end]).map(|(v, s)| (f64::from(*v) * s * factor) as f32);
                whole[first..end].iter_mut().zip(scaled).for_each(|(w, v)| *w = v);
                components.extend(whole);
            }
        }
        self.set_linear(components, covariance.mean())?;
        let total: f64 = variances.iter().zip(&scale).map(|(v, s)| v * s * s).sum();
        Ok(if total > 0.0 { kept / total } else { 1.0 })
    }

    /// The first channel of each extractor, and the one after its last.
    fn ranges(&self) -> Vec<(usize, usize)> {
        let (mut at, mut map) = (0, 0);
        let mut range = |part: &Part| {
            let first = at;
            at += self.sizes[map..map + part.cuts.len()].iter().map(|s| s[2]).sum::<usize>();
            map += part.cuts.len();
            (first, at)
        };
        self.parts.iter().map(&mut range).collect()
    }

    pub(super) fn set_linear(&mut self, components: Vec<f32>, mean: Vec<f32>) -> Result<()> {
        let projection = Projection::new(&components, &mean, &self.channels(), &self.device)?;
        self.linear = Some(Linear { components, mean, projection });
        Ok(())
    }
}
