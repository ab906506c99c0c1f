//! Extractors side by side, and one feature vector for each patch of an image.
//!
//! Every map is averaged over neighbourhoods (PatchCore, equation 2), brought to the largest map's size (bilinear) and joined
//! with the others on channels. Or a linear map follows: the principal components of all channels together (the thesis's
//! global transformation block) or of each extractor's own (its individual block), or an average of adjacent channels, as
//! PatchCore's public code shortens vectors. A linear map is applied before resizing, see [`hotad_kernels::fusion`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::ops::concat_channels;
use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, interrupt};
use hotad_kernels::fusion::Projection;
use hotad_kernels::pool::{PoolOptions, avg_pool2d};
use hotad_kernels::resize::{Filter, resize};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pca::{Covariance, Keep, Pca};
use super::{Source, fitted};

/// Images embedded together while a whole data set passes.
const BATCH: usize = 8;

/// An extractor and the cuts it is used at, ascending.
pub struct Part {
    /// The extractor.
    pub source: Source,
    /// Numbers of its cuts.
    pub cuts: Vec<usize>,
}

impl Part {
    /// Its innermost cut.
    fn last(&self) -> usize {
        self.cuts.last().copied().unwrap_or(0)
    }
}

/// A linear map of joined channels.
struct Linear {
    /// `[k][channels]`.
    components: Vec<f32>,
    /// `[channels]`.
    mean: Vec<f32>,
    projection: Projection,
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
    pub keep: Keep,
    /// Whether every extractor's channels get the same total variance before, so that none drowns the others by its scale.
    pub standardise: bool,
    /// Whether components get the same variance after: divided by `sqrt(variance + eps)`, eps a share of their mean
    /// variance that keeps those without any from growing out of rounding.
    pub whiten: bool,
}

/// `eps` of whitening, as a share of the mean variance.
const WHITEN_EPS: f64 = 1e-3;

/// Mean and deviation that a member's anomaly map is standardised by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standard {
    /// What is subtracted.
    pub mean: f32,
    /// What is divided by then.
    pub deviation: f32,
}

/// Feature vectors of patches.
pub struct Embedding {
    parts: Vec<Part>,
    image: ImageSpec,
    neighbourhood: usize,
    /// Rows, columns, channels of the maps in order.
    sizes: Vec<[usize; 3]>,
    linear: Option<Linear>,
    /// For each part whether its own anomaly map is a channel, the last ones; empty for none.
    standards: Vec<Option<Standard>>,
    device: Device,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    sources: Vec<Value>,
    cuts: Vec<Vec<usize>>,
    neighbourhood: usize,
    sizes: Vec<[usize; 3]>,
    projected: bool,
    #[serde(default)]
    standards: Vec<Option<Standard>>,
}

impl Embedding {
    /// Of images of a size, averaged over `neighbourhood` x `neighbourhood` pixels of each map. One blank image tells the sizes
    /// of the maps.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(parts: Vec<Part>, image: ImageSpec, neighbourhood: usize, device: &Device) -> Result<Self> {
        let (sizes, standards, device) = (Vec::new(), Vec::new(), device.clone());
        let mut embedding = Self { parts, image, neighbourhood, sizes, linear: None, standards, device };
        let blank = Tensor::new(vec![0.0; image.len()], &[1, image.height, image.width, image.channels])?;
        for map in embedding.maps(&blank)? {
            let [_, h, w, c] = map.nhwc()?;
            embedding.sizes.push([h, w, c]);
        }
        Ok(embedding)
    }

    /// What images it takes.
    pub fn image(&self) -> ImageSpec {
        self.image
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The extractors.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> (usize, usize) {
        self.sizes.iter().fold((0, 0), |(h, w), s| (h.max(s[0]), w.max(s[1])))
    }

    /// Channels of each map.
    pub fn channels(&self) -> Vec<usize> {
        self.sizes.iter().map(|s| s[2]).collect()
    }

    /// Elements of a patch's vector.
    pub fn dimensions(&self) -> usize {
        self.linear.as_ref().map_or(self.channels().iter().sum(), |l| l.projection.outputs())
    }

    /// The linear map that follows joining, if one does: `[k][channels]` and what is subtracted before, `[channels]`.
    pub fn linear(&self) -> Option<(&[f32], &[f32])> {
        self.linear.as_ref().map(|l| (&l.components[..], &l.mean[..]))
    }

    /// The maps of all extractors, averaged over neighbourhoods, then the anomaly maps of members, on the device.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn maps(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut all = Vec::with_capacity(self.sizes.len());
        for Part { source, cuts } in &self.parts {
            let extractor = source.extractor();
            for map in extractor.maps(&fitted(images, extractor.image(), &self.device)?, cuts)? {
                all.push(averaged(map, self.neighbourhood)?);
            }
        }
        for (part, standard) in self.parts.iter().zip(&self.standards) {
            let Some(Standard { mean, deviation }) = standard else { continue };
            let mut map = member_map(&part.source, images, self.grid())?.unwrap_or_default();
            map.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
            let (n, (h, w)) = (images.shape()[0], self.grid());
            all.push(Tensor::new(map, &[n, h, w, 1])?.to(&self.device)?);
        }
        Ok(all)
    }

    /// Vectors `[n, rows, columns, d]` of the patches of images.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let maps = self.maps(images)?;
        let Some(linear) = &self.linear else { return joined(&maps, self.grid()) };
        project(&linear.projection, &maps, self.grid(), &self.device)
    }

    /// Calls `work` with the vectors of images, batch by batch in order.
    ///
    /// # Errors
    /// When an image cannot be read, or what `work` says.
    pub fn for_each(&self, paths: &[PathBuf], mut work: impl FnMut(Tensor) -> Result<()>) -> Result<()> {
        let order: Vec<usize> = (0..paths.len()).collect();
        for_each_batch(&Images::new(paths, self.image), &order, BATCH, |batch| {
            interrupt::check()?;
            work(self.embed(&batch.images)?)
        })
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

    /// Calls `work` with the anomaly maps of members at the grid of patches, those of a batch together: the number of the
    /// member and the values. Networks that are no trained models have none.
    ///
    /// # Errors
    /// When an image cannot be read, or what a member reports.
    pub fn for_each_member_map(&self, paths: &[PathBuf], mut work: impl FnMut(usize, &[f32])) -> Result<()> {
        let order: Vec<usize> = (0..paths.len()).collect();
        for_each_batch(&Images::new(paths, self.image), &order, BATCH, |batch| {
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

    /// Changes what the anomaly maps of the same members are standardised by.
    pub fn set_standards(&mut self, standards: Vec<Option<Standard>>) {
        self.standards = standards;
    }

    /// Fits principal components on the patches of images. Returns the share of variance that is kept.
    ///
    /// # Errors
    /// When an image cannot be read, or more components are asked for than there are channels.
    pub fn fit(&mut self, paths: &[PathBuf], reduction: Reduction) -> Result<f64> {
        let Reduction { fusion, keep, standardise, whiten } = reduction;
        let mut covariance = Covariance::new(&self.device);
        self.for_each(paths, |x| covariance.add(&x))?;
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

    fn set_linear(&mut self, components: Vec<f32>, mean: Vec<f32>) -> Result<()> {
        let projection = Projection::new(&components, &mean, &self.channels(), &self.device)?;
        self.linear = Some(Linear { components, mean, projection });
        Ok(())
    }

    /// Everything but its tensors.
    pub fn saved(&self) -> Value {
        let saved = Saved {
            sources: self.parts.iter().map(|p| p.source.saved(p.last())).collect(),
            cuts: self.parts.iter().map(|p| p.cuts.clone()).collect(),
            neighbourhood: self.neighbourhood,
            sizes: self.sizes.clone(),
            projected: self.linear.is_some(),
            standards: self.standards.clone(),
        };
        serde_json::to_value(saved).expect("an embedding is plain data")
    }

    /// Its tensors.
    ///
    /// # Errors
    /// When they live on a device that is lost.
    pub fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = BTreeMap::new();
        for (i, part) in self.parts.iter().enumerate() {
            tensors.extend(part.source.tensors(part.last(), &prefix(i))?);
        }
        if let Some(linear) = &self.linear {
            let channels = linear.mean.len();
            let state = State::from([
                ("components".into(), Tensor::new(linear.components.clone(), &[self.dimensions(), channels])?),
                ("mean".into(), Tensor::new(linear.mean.clone(), &[channels])?),
            ]);
            tensors.extend(container::store(&state, FUSION)?);
        }
        Ok(tensors)
    }

    /// Reads what [`Embedding::saved`] and [`Embedding::tensors`] have given.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn restore(
        saved: &Value,
        image: ImageSpec,
        tensors: &BTreeMap<String, Stored>,
        device: &Device,
    ) -> Result<Self> {
        let damaged = |e: serde_json::Error| Error::Config(format!("damaged features in the model file ({e})"));
        let saved: Saved = serde_json::from_value(saved.clone()).map_err(damaged)?;
        let mut parts = Vec::with_capacity(saved.sources.len());
        for (i, (source, cuts)) in saved.sources.iter().zip(saved.cuts).enumerate() {
            let source = Source::restore(source, &prefix(i), tensors, device)?;
            let known = source.extractor().cuts().len();
            if !cuts.is_sorted() || cuts.iter().any(|cut| *cut >= known) {
                let reason = format!("damaged features in the model file (cuts {cuts:?} of a network with {known})");
                return Err(Error::Config(reason));
            }
            parts.push(Part { source, cuts });
        }
        if saved.sizes.iter().flatten().any(|extent| !(1..=LARGEST_EXTENT).contains(extent)) {
            let reason = format!("damaged features in the model file (maps of {:?})", saved.sizes);
            return Err(Error::Config(reason));
        }
        let (neighbourhood, sizes, standards) = (saved.neighbourhood, saved.sizes, saved.standards);
        let device = device.clone();
        let mut embedding = Self { parts, image, neighbourhood, sizes, linear: None, standards, device };
        if saved.projected {
            let state = container::restore(tensors, FUSION)?;
            let channels: usize = embedding.channels().iter().sum();
            let mean = fetch(&state, "mean", &[channels])?.values()?.into_owned();
            let rows = state.get("components").and_then(|t| t.shape().first().copied()).unwrap_or(0);
            let components = fetch(&state, "components", &[rows, channels])?.values()?.into_owned();
            embedding.set_linear(components, mean)?;
        }
        Ok(embedding)
    }
}

/// Most rows, columns or channels of a map that a model file may name.
const LARGEST_EXTENT: usize = 1 << 16;

/// Prefix of the linear map's tensors.
const FUSION: &str = "fusion.";

/// Prefix of an extractor's tensors.
fn prefix(part: usize) -> String {
    format!("extractor.{part}.")
}

/// Projects maps to one map `[n, rows, columns, k]` of the given size.
///
/// # Errors
/// When the maps are not those of the projection.
pub fn project(projection: &Projection, maps: &[Tensor], grid: (usize, usize), device: &Device) -> Result<Tensor> {
    let views = maps.iter().map(|m| Ok((m.view(), m.nhwc()?))).collect::<Result<Vec<_>>>()?;
    let n = maps.first().map_or(0, |m| m.shape()[0]);
    let shape = [n, grid.0, grid.1, projection.outputs()];
    let mut y = device.alloc(shape.iter().product())?;
    projection.run(&views, grid, &mut y)?;
    Tensor::from_buffer(y, &shape)
}

/// The anomaly maps of a member over the grid of patches, image by image; none for a network that is no trained model.
fn member_map(source: &Source, images: &Tensor, grid: (usize, usize)) -> Result<Option<Vec<f32>>> {
    let Source::Member(member) = source else { return Ok(None) };
    let spec = member.model.detector.image();
    let scores = member.model.score(&fitted(images, spec, &Device::Cpu)?)?;
    let maps: Vec<f32> = scores.into_iter().flat_map(|s| s.map).collect();
    let n = images.shape()[0];
    let mut at_grid = vec![0.0; n * grid.0 * grid.1];
    resize(&maps, [n, spec.height, spec.width, 1], grid, Filter::BilinearAntialias, &mut at_grid)?;
    Ok(Some(at_grid))
}

/// Each pixel the mean of its neighbourhood; beyond the border are zeros, as PatchCore's pooling has it.
fn averaged(map: Tensor, neighbourhood: usize) -> Result<Tensor> {
    if neighbourhood == 1 {
        return Ok(map);
    }
    let window = PoolOptions { kernel: neighbourhood, stride: 1, padding: neighbourhood / 2 };
    let mut y = map.device().alloc(map.len())?;
    avg_pool2d(map.view(), map.nhwc()?, window, true, &mut y)?;
    Tensor::from_buffer(y, map.shape())
}

/// Maps at one size, joined on channels.
fn joined(maps: &[Tensor], grid: (usize, usize)) -> Result<Tensor> {
    let mut whole: Option<Tensor> = None;
    for map in maps {
        let [n, h, w, c] = map.nhwc()?;
        let mut at_grid = map.clone();
        if (h, w) != grid {
            let mut y = map.device().alloc(n * grid.0 * grid.1 * c)?;
            resize(map.view(), [n, h, w, c], grid, Filter::Bilinear, &mut y)?;
            at_grid = Tensor::from_buffer(y, &[n, grid.0, grid.1, c])?;
        }
        whole = Some(match whole {
            None => at_grid,
            Some(known) => concat_channels(&known, &at_grid)?,
        });
    }
    whole.ok_or_else(|| Error::Config("an embedding without maps".into()))
}
