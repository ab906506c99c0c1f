//! The background prior of PAEDID: what a test image would look like without its defect.
//!
//! The prior is a part that can be exchanged (contribution iii of the paper): anything that gives a
//! normal image for a test image can serve.

use half::f16;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise::affine;
use hotad_kernels::replacement::replace_farthest;

use crate::autoencoder::TrainedAutoencoder;
use crate::config::BankType;
use crate::detector::{EditableBank, entry_name};

/// What a prior says of a batch.
pub struct Background {
    /// A normal background for each image; same shape as the batch.
    pub images: Tensor,
    /// Of each image; larger is more anomalous.
    pub image_scores: Buffer,
}

/// A normal background for each image of a batch.
pub trait BackgroundPrior: Send + Sync {
    /// Backgrounds and how much each image had to change.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn background(&self, images: &Tensor) -> Result<Background>;
}

/// Patch autoencoder and memory bank: latent vectors that look unlike any normal one at their
/// location are replaced by the nearest normal one, then decoded (sections 2.1.2 and 2.1.3).
pub struct PatchPrior {
    /// Network.
    pub autoencoder: TrainedAutoencoder,
    /// Normal latent vectors, location by location.
    pub bank: LocationBank,
    /// The image behind each entry.
    pub entries: Vec<String>,
    /// Share of locations that are replaced.
    pub alpha: f64,
}

/// A latent map with replaced locations.
struct Replaced {
    features: Tensor,
    /// s = 1 - largest cosine of each location.
    distance: Buffer,
    /// 1 = replaced.
    mask: Buffer<u32>,
    /// Image by image, the mean of s over the replaced locations (over the least normal one when alpha is 0).
    image_scores: Buffer,
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

/// Copies latent maps `[n, p1, p2, d]` into a bank under construction, from entry `first`.
fn fill<T: Copy>(
    bank: &mut [T],
    entries: usize,
    first: usize,
    latent: &Tensor,
    convert: impl Fn(f32) -> T,
) -> Result<()> {
    let [_, p1, p2, d] = latent.nhwc()?;
    for (at, vector) in latent.values()?.chunks_exact(d).enumerate() {
        let (image, location) = (at / (p1 * p2), at % (p1 * p2));
        let to = (location * entries + first + image) * d;
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

fn fill_data(data: &mut BankData, entries: usize, first: usize, latent: &Tensor) -> Result<()> {
    match data {
        BankData::F16(v) => fill(v, entries, first, latent, f16::from_f32),
        BankData::F32(v) => fill(v, entries, first, latent, |x| x),
    }
}

impl PatchPrior {
    /// Encodes every image once and keeps its latent vectors. Memory: the bank and one batch.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn build(
        autoencoder: TrainedAutoencoder,
        files: ImageFiles,
        spec: ImageSpec,
        batch: usize,
        bank: BankType,
        alpha: f64,
    ) -> Result<Self> {
        let latent = autoencoder.network.latent();
        let (locations, d) = (latent.locations(), latent.elements);
        let mut data = zeros(bank, files.len() * locations * d);
        for_all(&Images::new(files, spec), batch, |loaded| {
            let latent = autoencoder.encode(&loaded.images)?;
            fill_data(&mut data, files.len(), loaded.files[0].index, &latent)
        })?;
        let bank = LocationBank::new(locations, files.len(), d, data)?;
        let entries = files.iter().map(|p| entry_name(p)).collect();
        Ok(Self { autoencoder, bank, entries, alpha })
    }

    /// The latent map with the share alpha of locations replaced that is least like any normal one.
    fn replaced(&self, latent: Tensor) -> Result<Replaced> {
        let (locations, _, d) = self.bank.shape();
        let (device, shape) = (latent.device(), latent.nhwc()?);
        let found = shape[0] * locations;
        let (mut index, mut cosine) = (device.alloc(found)?, device.alloc(found)?);
        self.bank.nearest(latent.view(), &mut index, &mut cosine)?;
        let (mut nearest, mut distance) = (device.alloc(found * d)?, device.alloc(found)?);
        self.bank.gather(&index, &mut nearest)?;
        affine(&cosine, -1.0, 1.0, &mut distance)?;
        let (mut mask, mut image_scores) = (device.alloc(found)?, device.alloc(shape[0])?);
        let mut features = latent.into_buffer()?;
        replace_farthest(&mut features, &nearest, &distance, self.alpha, &mut mask, &mut image_scores)?;
        Ok(Replaced { features: Tensor::from_buffer(features, &shape)?, distance, mask, image_scores })
    }

    /// What happens to a batch on the way to its background.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn steps(&self, images: &Tensor) -> Result<PriorSteps> {
        let replaced = self.replaced(self.autoencoder.encode(images)?)?;
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
        let mut data = zeros(kind, locations * entries.len() * d);
        write(self, &mut data)?;
        self.bank = LocationBank::new(locations, entries.len(), d, data)?;
        self.entries = entries;
        Ok(())
    }

    /// Copies the kept entries of the present bank to the front of each location of `data`.
    fn copy_kept(&self, kept: &[usize], entries: usize, data: &mut BankData) {
        /// Vectors `[location][entry][d]`; `to` has `entries` of them at each location.
        fn copy<T: Copy>(from: &[T], [locations, had, d]: [usize; 3], to: &mut [T], entries: usize, kept: &[usize]) {
            for location in 0..locations {
                for (new, old) in kept.iter().enumerate() {
                    let (a, b) = ((location * had + old) * d, (location * entries + new) * d);
                    to[b..b + d].copy_from_slice(&from[a..a + d]);
                }
            }
        }
        let (locations, had, d) = self.bank.shape();
        let shape = [locations, had, d];
        match (self.bank.data(), data) {
            (BankData::F16(from), BankData::F16(to)) => copy(from, shape, to, entries, kept),
            (BankData::F32(from), BankData::F32(to)) => copy(from, shape, to, entries, kept),
            _ => unreachable!("a bank is rebuilt with the type it has"),
        }
    }
}

impl BackgroundPrior for PatchPrior {
    fn background(&self, images: &Tensor) -> Result<Background> {
        let Replaced { features, image_scores, .. } = self.replaced(self.autoencoder.encode(images)?)?;
        Ok(Background { images: self.autoencoder.decode(&features)?, image_scores })
    }
}

impl EditableBank for PatchPrior {
    fn entries(&self) -> &[String] {
        &self.entries
    }

    fn add(&mut self, images: &Tensor, names: &[String]) -> Result<()> {
        let latent = self.autoencoder.encode(images)?;
        let had = self.entries.len();
        let entries: Vec<String> = self.entries.iter().chain(names).cloned().collect();
        let count = entries.len();
        self.rebuild(entries, |old, data| {
            old.copy_kept(&(0..had).collect::<Vec<_>>(), count, data);
            fill_data(data, count, had, &latent)
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
