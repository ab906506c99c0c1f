//! Extractors side by side, and one feature vector for each patch of an image.
//!
//! Every map is averaged over neighbourhoods (PatchCore, equation 2), brought to the largest map's size (bilinear) and joined
//! with the others on channels. Or a linear map follows: the principal components of all channels together (the thesis's
//! global transformation block) or of each extractor's own (its individual block), or an average of adjacent channels, as
//! PatchCore's public code shortens vectors. A linear map is applied before resizing, see [`hotad_kernels::fusion`].

mod file;
mod member_maps;
mod reduction;

use hotad_engine::data::corrupt::{Change, RandomChange};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::ops::concat_channels;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Error, Result, interrupt};
use hotad_kernels::device::Buffer;
use hotad_kernels::fusion::Projection;
use hotad_kernels::pool::{PoolOptions, avg_pool2d};
use hotad_kernels::resize::{Filter, resize};
use smallvec::SmallVec;

use super::{Source, fitted};
pub use file::extractor;
pub use member_maps::Standard;
use member_maps::member_map;
use reduction::Linear;
pub use reduction::{Fusion, Reduction};

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

    /// The maps of all extractors, averaged over neighbourhoods, then the anomaly maps of members, on the device.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn maps(&self, images: &Tensor) -> Result<Tensors> {
        let mut all = Tensors::new();
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
            all.push(Tensor::from_buffer(Buffer::Host(map), &[n, h, w, 1])?.to(&self.device)?);
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
    pub fn for_each(&self, files: ImageFiles, work: impl FnMut(Tensor) -> Result<()>) -> Result<()> {
        self.for_each_of(&Images::new(files, self.image), work)
    }

    /// The same, and then with the vectors of each image once more, changed; only once without a change.
    ///
    /// # Errors
    /// When an image cannot be read, or what `work` says.
    pub fn for_each_augmented(
        &self,
        files: ImageFiles,
        change: Option<RandomChange>,
        mut work: impl FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        self.for_each(files, &mut work)?;
        let Some(change) = change else { return Ok(()) };
        self.for_each_of(&Images::new(files, self.image).changed(Some(Change::Random(change))), work)
    }

    fn for_each_of(&self, images: &Images, mut work: impl FnMut(Tensor) -> Result<()>) -> Result<()> {
        for_all(images, BATCH, |batch| {
            interrupt::check()?;
            work(self.embed(&batch.images)?)
        })
    }
}

/// Projects maps to one map `[n, rows, columns, k]` of the given size.
///
/// # Errors
/// When the maps are not those of the projection.
pub fn project(projection: &Projection, maps: &[Tensor], grid: (usize, usize), device: &Device) -> Result<Tensor> {
    let views = maps.iter().map(|m| Ok((m.view(), m.nhwc()?))).collect::<Result<SmallVec<[_; 8]>>>()?;
    let n = maps.first().map_or(0, |m| m.shape()[0]);
    let shape = [n, grid.0, grid.1, projection.outputs()];
    let mut y = device.alloc(shape.iter().product())?;
    projection.run(&views, grid, &mut y)?;
    Tensor::from_buffer(y, &shape)
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
