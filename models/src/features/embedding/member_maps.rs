//! Members' own anomaly maps as the last channels.

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Error, Result, interrupt};
use hotad_kernels::device::HostBuffer;
use hotad_kernels::resize::{Filter, resize};
use serde::{Deserialize, Serialize};

use super::reduction::Linear;
use super::{BATCH, Embedding, Part};
use crate::config::damaged;
use crate::features::{Source, fitted};

/// Mean and deviation that a member's anomaly map is standardised by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standard {
    /// What is subtracted.
    pub mean: f32,
    /// What is divided by then.
    pub deviation: f32,
}

impl Embedding {
    /// Calls `work` with the anomaly maps of members at the grid of patches, those of a batch together: the number of the
    /// member and the values. Networks that are no trained models have none.
    ///
    /// # Errors
    /// When an image cannot be read, or what a member reports.
    pub fn for_each_member_map(&self, files: ImageFiles, mut work: impl FnMut(usize, &[f32])) -> Result<()> {
        for_all(&Images::new(files, self.image), BATCH, |batch| {
            interrupt::check()?;
            for (number, part) in self.parts.iter().enumerate() {
                if let Some(map) = member_map(&part.source, &batch.images, self.grid())? {
                    work(number, &map);
                }
            }
            Ok(())
        })
    }

    /// Makes the anomaly maps of members the last channels, after the components that were fitted, by what each is
    /// standardised by; none for a part without a map.
    ///
    /// # Errors
    /// When nothing was fitted, or the device is out of memory.
    pub fn add_member_maps(&mut self, standards: Vec<Option<Standard>>) -> Result<()> {
        let Some(Linear { components, mean, .. }) = self.linear.take() else {
            return Err(Error::Config("member maps without a fitted reduction".into()));
        };
        let (channels, more, (h, w)) = (mean.len(), standards.iter().flatten().count(), self.grid());
        let mut wider = Vec::with_capacity((components.len() / channels + more) * (channels + more));
        for row in components.chunks_exact(channels) {
            wider.extend(row);
            wider.resize(wider.len() + more, 0.0);
        }
        for map in 0..more {
            let first = wider.len();
            wider.resize(first + channels + more, 0.0);
            wider[first + channels + map] = 1.0;
        }
        self.sizes.resize(self.sizes.len() + more, [h, w, 1]);
        self.standards = standards;
        self.set_linear(wider, [mean, vec![0.0; more]].concat())
    }

    /// The anomaly maps of members that a model file names, as [`Embedding::add_member_maps`] has left them.
    pub(super) fn expect_member_maps(&mut self, standards: Vec<Option<Standard>>) -> Result<()> {
        let known = |(part, standard): (&Part, &Option<Standard>)| match standard {
            Some(s) => {
                matches!(part.source, Source::Member(_)) && s.mean.is_finite() && s.deviation >= f32::MIN_POSITIVE
            }
            None => true,
        };
        let whole = standards.is_empty() || standards.len() == self.parts.len();
        if !whole || !self.parts.iter().zip(&standards).all(known) {
            return Err(damaged("standards of anomaly maps that are not those of the members"));
        }
        let (more, (h, w)) = (standards.iter().flatten().count(), self.grid());
        self.sizes.resize(self.sizes.len() + more, [h, w, 1]);
        self.standards = standards;
        Ok(())
    }

    /// Changes what the anomaly maps of the same members are standardised by.
    pub fn set_standards(&mut self, standards: Vec<Option<Standard>>) {
        self.standards = standards;
    }
}

/// The anomaly maps of a member over the grid of patches, image by image; none for a network that is no trained model.
pub(super) fn member_map(source: &Source, images: &Tensor, grid: (usize, usize)) -> Result<Option<HostBuffer<f32>>> {
    let Source::Member(member) = source else { return Ok(None) };
    let spec = member.model.detector.image();
    let scores = member.model.score_until(&fitted(images, spec, &Device::CPU)?, &Until::done())?;
    let (n, len) = (images.shape()[0], spec.height * spec.width);
    let mut maps = HostBuffer::try_uninit(n * len)?;
    maps.chunks_exact_mut(len).zip(&scores).for_each(|(to, score)| to.copy_from_slice(&score.map.values));
    let mut at_grid = HostBuffer::try_uninit(n * grid.0 * grid.1)?;
    let shape = [n, spec.height, spec.width, 1];
    resize(&maps[..], shape, grid, Filter::BilinearAntialias, &mut at_grid[..])?;
    Ok(Some(at_grid))
}
