//! Batches, decoded ahead on a thread of their own. Memory: three batches, whatever the data set; and
//! for training, which sees every image many times, the decoded images as long as they fit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use super::corrupt::Change;
use super::crop::{Crop, Pixels};
use super::decode;
use super::files::ImageFiles;
use super::notices::{Notice, note};
use super::picture::ImageSpec;
use super::raster::Raster;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Batches that wait decoded while one is worked on.
const AHEAD: usize = 2;

/// Bytes of decoded images that are kept between epochs.
const KEPT: usize = 1 << 30;

/// Bytes of decoded files that wait beside the images of a batch, where they are asked for.
const ORIGINALS: usize = 1 << 27;

/// Some images of a data set.
pub struct Batch {
    /// `[n, height, width, channels]`, values in 0..1.
    pub images: Tensor,
    /// The file of each.
    pub files: Vec<BatchFile>,
}

/// The file of an image of a batch.
pub struct BatchFile {
    /// Which of the loader's paths it is.
    pub index: usize,
    /// The path.
    pub path: PathBuf,
    /// Rows and columns before resizing.
    pub size: (usize, usize),
    /// All of it as decoded, where that was asked for and fits into the 128 MiB of a batch.
    pub original: Option<Raster>,
}

impl BatchFile {
    /// All of it as decoded; read again where that was not kept.
    ///
    /// # Errors
    /// When it has to be read again and cannot be.
    pub fn into_original(self) -> Result<Raster> {
        self.original.map_or_else(|| decode::open(&self.path), Ok)
    }
}

/// A decoded image at the size of the model.
struct Decoded {
    values: Vec<f32>,
    /// Rows and columns of its file.
    size: (usize, usize),
}

/// Random views of images whose pixels are kept in 8 bits, those that are decoded first up to [`KEPT`] bytes.
struct Views {
    crop: Crop,
    kept: Vec<OnceLock<Pixels>>,
    bytes: AtomicUsize,
}

impl Views {
    /// View `number` of image `i`, and rows and columns of its file.
    fn view(&self, path: &Path, i: usize, number: u64) -> Result<Decoded> {
        let of = |pixels: &Pixels| {
            Ok(Decoded { values: self.crop.view(pixels, number)?, size: (pixels.height, pixels.width) })
        };
        if let Some(pixels) = self.kept[i].get() {
            return of(pixels);
        }
        let pixels = Pixels::from(decode::open(path)?);
        let view = of(&pixels);
        let before = self.bytes.fetch_add(pixels.values.len(), Ordering::Relaxed);
        if before + pixels.values.len() <= KEPT {
            self.kept[i].get_or_init(|| pixels);
        } else {
            self.bytes.fetch_sub(pixels.values.len(), Ordering::Relaxed);
        }
        view
    }
}

/// Image files, brought to one size when read.
#[derive(Clone)]
pub struct Images<'a> {
    files: ImageFiles<'a>,
    spec: ImageSpec,
    kept: Option<Arc<[OnceLock<Decoded>]>>,
    change: Option<Change>,
    views: Option<Arc<Views>>,
    pass: u64,
    originals: bool,
}

impl<'a> Images<'a> {
    /// Decoded anew each time.
    pub fn new(files: ImageFiles<'a>, spec: ImageSpec) -> Self {
        Self { files, spec, kept: None, change: None, views: None, pass: 0, originals: false }
    }

    /// Decoded once when all together take less than a gibibyte.
    pub fn kept(files: ImageFiles<'a>, spec: ImageSpec) -> Self {
        let fits = files.len() * spec.len() * size_of::<f32>() <= KEPT;
        let kept = fits.then(|| files.iter().map(|_| OnceLock::new()).collect());
        Self { kept, ..Self::new(files, spec) }
    }

    /// A random view of each whole image, another one in every pass.
    pub fn cropped(paths: &'a [PathBuf], crop: Crop) -> Self {
        let kept = paths.iter().map(|_| OnceLock::new()).collect();
        let views = Views { crop, kept, bytes: AtomicUsize::new(0) };
        let spec = ImageSpec { height: crop.size, width: crop.size, channels: 3 };
        Self { views: Some(Arc::new(views)), ..Self::new(ImageFiles::whole(paths), spec) }
    }

    /// In pass `pass` over them, which random views are drawn by.
    #[must_use]
    pub fn pass(self, pass: u64) -> Self {
        Self { pass, ..self }
    }

    /// Changed before they are brought to their size; random views are not.
    #[must_use]
    pub fn changed(self, change: Option<Change>) -> Self {
        Self { change, ..self }
    }

    /// With all of each file as decoded, up to 128 MiB a batch, for those that are decoded anew each time.
    #[must_use]
    pub fn with_originals(self, originals: bool) -> Self {
        Self { originals, ..self }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn decode(&self, i: usize) -> Result<(Decoded, Raster)> {
        let (path, roi) = (&self.files[i], self.files.roi());
        let raster = decode::open(path)?;
        let size = (raster.height(), raster.width());
        if is_squashed(roi.map_or(size, |roi| (roi.bounds().height, roi.bounds().width)), self.spec) {
            note(Notice::Proportions, path);
        }
        let picture = match &self.change {
            Some(change) => change.apply(raster.picture(), i)?.fit_within(self.spec, roi),
            None => raster.fit(self.spec, roi),
        };
        let values = picture.map_err(|e| e.of_file(path))?.values;
        Ok((Decoded { values, size }, raster))
    }

    /// Appends the values of one image; returns its file.
    fn append(&self, i: usize, values: &mut Vec<f32>) -> Result<BatchFile> {
        let file = |size, original| BatchFile { index: i, path: self.files[i].clone(), size, original };
        if let Some(views) = &self.views {
            let number = self.pass * self.files.len() as u64 + i as u64;
            let view = views.view(&self.files[i], i, number)?;
            values.extend(view.values);
            return Ok(file(view.size, None));
        }
        let Some(slot) = self.kept.as_ref().map(|kept| &kept[i]) else {
            let (decoded, raster) = self.decode(i)?;
            values.extend(decoded.values);
            return Ok(file(decoded.size, self.originals.then_some(raster)));
        };
        if slot.get().is_none() {
            let (decoded, _) = self.decode(i)?;
            slot.get_or_init(|| decoded);
        }
        let decoded = slot.get().expect("just filled");
        values.extend(&decoded.values);
        Ok(file(decoded.size, None))
    }

    fn load(&self, indices: &[usize]) -> Result<Loaded> {
        let mut values = Vec::with_capacity(indices.len() * self.spec.len());
        let (mut files, mut broken, mut left) = (Vec::new(), Vec::new(), ORIGINALS);
        for i in indices {
            match self.append(*i, &mut values) {
                Ok(mut file) => {
                    let bytes = file.original.as_ref().map_or(0, Raster::bytes);
                    match left.checked_sub(bytes) {
                        Some(rest) => left = rest,
                        None => file.original = None,
                    }
                    files.push(file);
                }
                Err(error) => broken.push((*i, error)),
            }
        }
        if files.is_empty() {
            return Ok(Loaded { batch: None, broken });
        }
        let shape = [files.len(), self.spec.height, self.spec.width, self.spec.channels];
        let batch = Batch { images: Tensor::new(values, &shape)?, files };
        Ok(Loaded { batch: Some(batch), broken })
    }
}

/// Whether one side of an image shrinks more than twice as much as the other.
fn is_squashed((height, width): (usize, usize), spec: ImageSpec) -> bool {
    let (tall, wide) = (height * spec.width, width * spec.height);
    tall > 2 * wide || wide > 2 * tall
}

/// Images that were loaded together.
pub struct Loaded {
    /// Those that could be decoded; `None` where none could.
    pub batch: Option<Batch>,
    /// Those that could not be decoded: the number of the path among the loader's, and the error.
    pub broken: Vec<(usize, Error)>,
}

/// Calls `work` with all images in their order, `batch` at a time.
///
/// # Errors
/// The first error of decoding or of `work`.
pub fn for_all(images: &Images, batch: usize, work: impl FnMut(Batch) -> Result<()>) -> Result<()> {
    for_each_batch(images, &(0..images.len()).collect::<Vec<_>>(), batch, work)
}

/// Calls `work` with the images in the given order, `batch` at a time.
///
/// # Errors
/// The first error of decoding or of `work`.
pub fn for_each_batch(
    images: &Images,
    order: &[usize],
    batch: usize,
    mut work: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    for_each_loaded(images, order, batch, |loaded| match loaded.broken.into_iter().next() {
        Some((_, error)) => Err(error),
        None => loaded.batch.map_or(Ok(()), &mut work),
    })
}

/// As [`for_each_batch`], but images that cannot be decoded are handed to `work` beside the others of their batch.
///
/// # Errors
/// The first error of `work`, or shapes that do not fit.
pub fn for_each_loaded(
    images: &Images,
    order: &[usize],
    batch: usize,
    mut work: impl FnMut(Loaded) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        let load = move || {
            for indices in order.chunks(batch.max(1)) {
                let loaded = images.load(indices);
                let failed = loaded.is_err();
                if sender.send(loaded).is_err() || failed {
                    break;
                }
            }
        };
        let started = std::thread::Builder::new().spawn_scoped(scope, load);
        started.map_err(|e| Error::Device(format!("cpu: no thread can be started to load images: {e}")))?;
        for loaded in receiver {
            work(loaded?)?;
        }
        Ok(())
    })
}
