//! The background prior of PAEDID: what a test image would look like without its defect.
//!
//! The prior is a part that can be exchanged (contribution iii of the paper): anything that gives a
//! normal image for a test image can serve.

mod alignment;
mod views;

use half::f16;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::cosine_nn::{BankData, LocationBank, Neighbourhood};
use hotad_kernels::device::{Buffer, View};
use hotad_kernels::elementwise::affine;
use hotad_kernels::replacement::{mark_highest, replace_farthest};

use crate::autoencoder::TrainedAutoencoder;
use crate::config::BankType;
use crate::detector::{EditableBank, entry_names};
pub use alignment::Aligned;
use views::views_of;
pub use views::{BankView, vectors_of_image};

/// A normal background for each image of a batch.
pub trait BackgroundPrior: Send + Sync {
    /// The backgrounds, of the shape of the batch.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn background(&self, images: &Tensor) -> Result<Tensor>;
}

/// Patch autoencoder and memory bank: latent vectors that look unlike any normal one at their
/// location are replaced by the nearest normal one, then decoded (sections 2.1.2 and 2.1.3).
pub struct PatchPrior {
    /// Network.
    pub autoencoder: TrainedAutoencoder,
    /// Normal latent vectors, location by location; at each those of the first image and of its views, then those of the next.
    pub bank: LocationBank,
    /// The images of the bank.
    pub entries: Vec<String>,
    /// Views of each image that are in the bank beside it.
    pub views: Vec<BankView>,
    /// Share of locations that are replaced.
    pub alpha: f64,
    /// Rows and columns around a location that are searched too.
    pub reach: usize,
    /// Vectors of each location that are searched, those of the images and views most like the image; 0 for all.
    pub similar: usize,
    /// Images and views of the bank that images are aligned to before they are encoded; 0 for none.
    pub align: usize,
}

/// Latent maps with replaced locations.
pub struct Replaced {
    /// The maps, `[n, p1, p2, d]`.
    pub features: Tensor,
    /// s = 1 - largest cosine of each location, `[n, p1, p2]`.
    pub distance: Buffer,
    /// 1 = replaced, `[n, p1, p2]`.
    pub mask: Buffer<u32>,
    /// Image by image, the mean of s over the replaced locations (over the least normal one when alpha is 0).
    pub image_scores: Buffer,
}

/// What happens to a batch on the way to its background.
pub struct PriorSteps {
    /// The backgrounds, `[n, h, w, c]`.
    pub images: Tensor,
    /// s = 1 - largest cosine, `[n, p1, p2]`.
    pub distance: Vec<f32>,
    /// 1 = replaced by the nearest normal vector, `[n, p1, p2]`.
    pub mask: Vec<u32>,
}

/// Where latent maps go in a bank.
#[derive(Clone, Copy)]
struct Slots {
    /// Vectors at each location.
    count: usize,
    /// The vector of the first map.
    first: usize,
    /// From the vector of one map to that of the next.
    step: usize,
}

/// Copies latent maps `[n, p1, p2, d]` into a bank under construction.
fn fill<T: Copy>(bank: &mut [T], slots: Slots, latent: &Tensor, convert: impl Fn(f32) -> T) -> Result<()> {
    let [_, p1, p2, d] = latent.nhwc()?;
    for (at, vector) in latent.values()?.chunks_exact(d).enumerate() {
        let (image, location) = (at / (p1 * p2), at % (p1 * p2));
        let to = (location * slots.count + slots.first + image * slots.step) * d;
        for (b, v) in bank[to..to + d].iter_mut().zip(vector) {
            *b = convert(*v);
        }
    }
    Ok(())
}

/// An empty bank of the wanted type.
fn zeros(kind: BankType, len: usize) -> BankData {
    match kind {
        BankType::F16 => BankData::F16(vec![f16::ZERO; len]),
        BankType::F32 => BankData::F32(vec![0.0; len]),
    }
}

fn fill_data(data: &mut BankData, slots: Slots, latent: &Tensor) -> Result<()> {
    match data {
        BankData::F16(v) => fill(v, slots, latent, f16::from_f32),
        BankData::F32(v) => fill(v, slots, latent, |x| x),
    }
}

/// Latent maps of a batch, then those of each of its views.
fn encoded(autoencoder: &TrainedAutoencoder, views: &[BankView], images: &Tensor) -> Result<Vec<Tensor>> {
    let patch = autoencoder.network.image().height / autoencoder.network.latent().rows;
    let mut maps = vec![autoencoder.encode(images)?];
    for view in views_of(views, images, patch)? {
        maps.push(autoencoder.encode(&view)?);
    }
    Ok(maps)
}

/// Copies what [`encoded`] gives of images into a bank of `images` images under construction, from image `first`.
fn fill_images(data: &mut BankData, images: usize, first: usize, maps: &[Tensor]) -> Result<()> {
    let step = maps.len();
    maps.iter().enumerate().try_for_each(|(view, latent)| {
        fill_data(data, Slots { count: images * step, first: first * step + view, step }, latent)
    })
}

impl PatchPrior {
    /// Encodes every image, and each of its views, once and keeps their latent vectors. Memory: the bank and one batch.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn build(
        autoencoder: TrainedAutoencoder,
        files: ImageFiles,
        spec: ImageSpec,
        batch: usize,
        (bank, views): (BankType, Vec<BankView>),
        alpha: f64,
    ) -> Result<Self> {
        let latent = autoencoder.network.latent();
        let (locations, d) = (latent.locations(), latent.elements);
        let count = files.len() * vectors_of_image(&views);
        let mut data = zeros(bank, count * locations * d);
        for_all(&Images::new(files, spec), batch, |loaded| {
            let maps = encoded(&autoencoder, &views, &loaded.images)?;
            fill_images(&mut data, files.len(), loaded.files[0].index, &maps)
        })?;
        let bank = LocationBank::new(locations, count, d, data)?;
        let entries = entry_names(files.paths());
        Ok(Self { autoencoder, bank, entries, views, alpha, reach: 0, similar: 0, align: 0 })
    }

    /// Vectors that each image has in the bank at each location.
    pub fn vectors_of_image(&self) -> usize {
        vectors_of_image(&self.views)
    }

    /// The nearest normal vector of each location, and s = 1 - cosine to it. `among`, `[image][vector]`, says which
    /// vectors of each location are searched.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn nearest(&self, latent: &Tensor, among: Option<View<u32>>) -> Result<(Buffer<u32>, Buffer)> {
        let (device, found) = (latent.device(), latent.len() / self.bank.shape().2);
        let (mut index, mut cosine) = (device.alloc(found)?, device.alloc(found)?);
        let near = Neighbourhood { columns: self.autoencoder.network.latent().columns, reach: self.reach };
        self.bank.nearest_within(latent.view(), (near, among), &mut index, &mut cosine)?;
        let mut distance = device.alloc(found)?;
        affine(&cosine, -1.0, 1.0, &mut distance)?;
        Ok((index, distance))
    }

    /// Marks the images and views most like each image, where not all are searched.
    fn alike(&self, latent: &Tensor) -> Result<Option<Buffer<u32>>> {
        let (device, (locations, entries, d)) = (latent.device(), self.bank.shape());
        if !(1..entries).contains(&self.similar) {
            return Ok(None);
        }
        let pairs = latent.len() / (locations * d) * entries;
        let (mut means, mut mask) = (device.alloc(pairs)?, device.alloc(pairs)?);
        self.bank.mean_cosines(latent.view(), &mut means)?;
        mark_highest(&means, entries, self.similar, &mut mask)?;
        Ok(Some(mask))
    }

    /// The latent maps of images with the share alpha of locations replaced that is least like any normal one.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn replaced(&self, images: &Tensor) -> Result<Replaced> {
        let latent = self.autoencoder.encode(images)?;
        let (device, shape) = (latent.device(), latent.nhwc()?);
        let alike = self.alike(&latent)?;
        let (index, distance) = self.nearest(&latent, alike.as_ref().map(Buffer::view))?;
        let mut nearest = device.alloc(latent.len())?;
        self.bank.gather(&index, &mut nearest)?;
        let (mut mask, mut image_scores) = (device.alloc(index.len())?, device.alloc(shape[0])?);
        let mut features = latent.into_buffer()?;
        replace_farthest(&mut features, &nearest, &distance, self.alpha, &mut mask, &mut image_scores)?;
        Ok(Replaced { features: Tensor::from_buffer(features, &shape)?, distance, mask, image_scores })
    }

    /// What happens to a batch on the way to its background.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn steps(&self, images: &Tensor) -> Result<PriorSteps> {
        let replaced = self.replaced(images)?;
        Ok(PriorSteps {
            images: self.autoencoder.decode(&replaced.features)?,
            distance: replaced.distance.into_vec()?,
            mask: replaced.mask.into_vec()?,
        })
    }

    fn rebuild(&mut self, entries: Vec<String>, write: impl FnOnce(&Self, &mut BankData) -> Result<()>) -> Result<()> {
        let (locations, _, d) = self.bank.shape();
        let kind = match self.bank.data() {
            BankData::F16(_) => BankType::F16,
            BankData::F32(_) => BankType::F32,
        };
        let count = entries.len() * self.vectors_of_image();
        let mut data = zeros(kind, locations * count * d);
        write(self, &mut data)?;
        self.bank = LocationBank::new(locations, count, d, data)?;
        self.entries = entries;
        Ok(())
    }

    /// Copies the vectors of the kept images of the present bank to the front of each location of `data`, which has `images`.
    fn copy_kept(&self, kept: &[usize], images: usize, data: &mut BankData) {
        /// Vectors `[location][image][d]`, those of an image and its views taken as one; `to` has `images` of them at each location.
        fn copy<T: Copy>(from: &[T], [locations, had, d]: [usize; 3], to: &mut [T], images: usize, kept: &[usize]) {
            for location in 0..locations {
                for (new, old) in kept.iter().enumerate() {
                    let (a, b) = ((location * had + old) * d, (location * images + new) * d);
                    to[b..b + d].copy_from_slice(&from[a..a + d]);
                }
            }
        }
        let (locations, _, d) = self.bank.shape();
        let shape = [locations, self.entries.len(), self.vectors_of_image() * d];
        match (self.bank.data(), data) {
            (BankData::F16(from), BankData::F16(to)) => copy(from, shape, to, images, kept),
            (BankData::F32(from), BankData::F32(to)) => copy(from, shape, to, images, kept),
            _ => unreachable!("a bank is rebuilt with the type it has"),
        }
    }
}

impl BackgroundPrior for PatchPrior {
    fn background(&self, images: &Tensor) -> Result<Tensor> {
        self.autoencoder.decode(&self.replaced(images)?.features)
    }
}

impl EditableBank for PatchPrior {
    fn entries(&self) -> &[String] {
        &self.entries
    }

    fn add(&mut self, images: &Tensor, names: &[String]) -> Result<()> {
        let maps = encoded(&self.autoencoder, &self.views, images)?;
        let had = self.entries.len();
        let entries: Vec<String> = self.entries.iter().chain(names).cloned().collect();
        let count = entries.len();
        self.rebuild(entries, |old, data| {
            old.copy_kept(&(0..had).collect::<Vec<_>>(), count, data);
            fill_images(data, count, had, &maps)
        })
    }

    fn remove(&mut self, names: &[String]) -> Result<usize> {
        let kept: Vec<usize> = (0..self.entries.len()).filter(|i| !names.contains(&self.entries[*i])).collect();
        let removed = self.entries.len() - kept.len();
        if kept.is_empty() {
            return Err(Error::Config("the bank would be empty; keep at least one image".into()));
        }
        let entries: Vec<String> = kept.iter().map(|i| self.entries[*i].clone()).collect();
        let count = entries.len();
        self.rebuild(entries, |old, data| {
            old.copy_kept(&kept, count, data);
            Ok(())
        })?;
        Ok(removed)
    }
}
