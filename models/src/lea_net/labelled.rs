//! Labelled images and the anomaly maps that attention learns from.
//!
//! A colour network's maps of the images that it has learned from are too clean: attention would learn from maps that no new
//! image has. So maps are cross-fitted: all images are dealt out to a few parts that divide no group, and the maps of a part
//! come from a network that has learned from the normal images of the others alone. Scoring uses one that has learned from
//! all; each network's maps are on the scale of its own maps of the held-out images, so that both are alike on new images.
//!
//! A model that is given as the guide is not trained again, and may have learned from the same normal images: their maps are
//! on the scale of these very maps, all others on that of the held-out images.

use std::path::PathBuf;

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::groups;
use hotad_engine::data::loader::{Batch, Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::data::roi::Roi;
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::{Error, Result, interrupt};
use hotad_kernels::elementwise::clamp;

use super::config::Config;
use super::guide::{COLOUR, Guide, GuideModel};
use crate::color_unet::Recolouring;
use crate::fit::{FitContext, stage};

/// Labelled images with their anomaly maps.
pub struct Labelled {
    /// Image files.
    pub paths: Vec<PathBuf>,
    /// The region of them that is looked at.
    roi: Option<Roi>,
    /// 1 for defective, 0 for normal.
    pub labels: Vec<f32>,
    /// Anomaly map of each image, as networks see it.
    pub maps: Vec<Vec<f32>>,
}

impl Labelled {
    /// Images whose maps are yet to be made.
    pub fn new(files: ImageFiles, labels: Vec<f32>) -> Self {
        let maps = vec![Vec::new(); files.len()];
        Self { paths: files.to_vec(), roi: files.roi().cloned(), labels, maps }
    }

    /// Makes the maps of some of the images.
    ///
    /// # Errors
    /// When an image cannot be read, or what `maps` reports.
    pub fn make_maps(
        &mut self,
        some: &[usize],
        config: &Config,
        maps: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync,
    ) -> Result<()> {
        let (spec, paths) = (config.image(), some.iter().map(|i| self.paths[*i].clone()).collect::<Vec<_>>());
        let files = ImageFiles::new(&paths, self.roi.as_ref());
        for_all(&Images::new(files, spec), config.batch, |loaded| {
            interrupt::check()?;
            let values = pooled(|| seen(&maps(&loaded.images)?))?.values()?.into_owned();
            for (map, file) in values.chunks_exact(spec.height * spec.width).zip(&loaded.files) {
                self.maps[some[file.index]] = map.to_vec();
            }
            Ok(())
        })
    }

    /// The images as they are looked at.
    pub fn files(&self) -> ImageFiles<'_> {
        ImageFiles::new(&self.paths, self.roi.as_ref())
    }

    /// The anomaly maps of the images of a batch, `[n, h, w, 1]`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn maps_of(&self, batch: &Batch, spec: ImageSpec, device: &Device) -> Result<Tensor> {
        let values = batch.files.iter().flat_map(|file| self.maps[file.index].iter().copied()).collect();
        Tensor::new(values, &[batch.files.len(), spec.height, spec.width, 1])?.to(device)
    }
}

/// Anomaly maps as networks see them: at least 0 and at most 1, which hardly any normal pixel exceeds.
///
/// # Errors
/// When the device is out of memory.
pub fn seen(maps: &Tensor) -> Result<Tensor> {
    let mut limited = maps.device().alloc(maps.len())?;
    clamp(maps.view(), (0.0, 1.0), &mut limited)?;
    Tensor::from_buffer(limited, maps.shape())
}

/// Images to learn from: first the normal ones of the context, then any others.
pub struct Material<'a> {
    /// Image files.
    pub images: ImageFiles<'a>,
    /// 1 for defective, 0 for normal.
    pub labels: Vec<f32>,
    /// The group that each is of.
    pub groups: &'a [usize],
}

impl Material<'_> {
    /// Trains or reads what the settings name as the guide, and makes the maps of the images. The guide learns from the normal
    /// images of the context and is brought to scale on the held-out ones.
    ///
    /// # Errors
    /// Gray or broken images, too few groups, divergence, interruption.
    pub fn guided(self, config: &Config, context: &FitContext) -> Result<(Guide, Labelled)> {
        match config.guide.as_str() {
            "" => self.cross_fitted(config, context),
            path => self.by_model(GuideModel::read(path.as_ref(), config.image(), context)?, config, context),
        }
    }

    fn by_model(self, model: GuideModel, config: &Config, context: &FitContext) -> Result<(Guide, Labelled)> {
        let learned = model.scale_of(context.train, config.image(), context)?;
        let (own, others): (Vec<usize>, Vec<usize>) = (0..self.images.len()).partition(|i| *i < context.train.len());
        let mut labelled = Labelled::new(self.images, self.labels);
        labelled.make_maps(&own, config, |images| model.maps_on(learned, images))?;
        let guide = Guide::Model(Box::new(model));
        labelled.make_maps(&others, config, |images| guide.maps(images))?;
        Ok((guide, labelled))
    }

    fn cross_fitted(self, config: &Config, context: &FitContext) -> Result<(Guide, Labelled)> {
        let parts = self.parts(config, context)?;
        let colour = config.colour();
        let network = Recolouring::fit(&colour, &context.of_stage(Some(stage::COLOUR)), Some(COLOUR))?;
        let mut labelled = Labelled::new(self.images, self.labels);
        if config.map_parts == 1 {
            let all: Vec<usize> = (0..parts.len()).collect();
            labelled.make_maps(&all, config, |images| network.maps(images))?;
            return Ok((Guide::Colour(Box::new(network)), labelled));
        }
        let mut chosen = context.chosen.clone();
        chosen.insert("setting map_parts".into(), config.map_parts.into());
        for part in 0..config.map_parts {
            let others = (0..context.train.len()).filter(|i| parts[*i] != part);
            let train: Vec<PathBuf> = others.map(|i| context.train[i].clone()).collect();
            let (number, count) = (part + 1, config.map_parts);
            context
                .observer
                .say(&format!("colours for the maps of part {number} of {count}, from the other normal images"));
            let stage = context.of_stage(Some(stage::COLOUR_PARTS[part]));
            let network = Recolouring::fit(
                &colour,
                &FitContext { train: context.train.with(&train), chosen: &chosen, ..stage },
                None,
            )?;
            let own: Vec<usize> = (0..parts.len()).filter(|i| parts[*i] == part).collect();
            labelled.make_maps(&own, config, |images| network.maps(images))?;
        }
        Ok((Guide::Colour(Box::new(network)), labelled))
    }

    /// The part that the map of each image is made with.
    fn parts(&self, config: &Config, context: &FitContext) -> Result<Vec<usize>> {
        let count = config.map_parts;
        let class: Vec<bool> = self.labels.iter().map(|label| *label > 0.5).collect();
        let parts = groups::folds(self.groups, &class, count, context.seed);
        let normal = &parts[..context.train.len()];
        if count > 1 && (0..count).any(|part| normal.iter().all(|p| *p == part)) {
            return Err(Error::Config(format!(
                "setting map_parts = {count}: the {} normal images are of too few groups to leave one out and learn colours \
                 from the others; add images, or take the maps of the one colour network (map_parts = 1)",
                normal.len()
            )));
        }
        Ok(parts)
    }
}
