//! Feature maps: where they come from, and how several become one.
//!
//! An [`Extractor`] is a network that can be cut at named layers: one of torchvision's (backbone.rs), a patch autoencoder
//! trained on the same images, or any trained model of hotad that has feature maps (source.rs). An [`Embedding`] puts
//! extractors side by side: it averages neighbourhoods, brings all maps to one size and joins them, or projects them on
//! their principal components (pca.rs).

pub mod augmentation;
pub mod backbone;
pub mod embedding;
pub mod pca;
pub mod settings;
pub mod source;

use hotad_engine::Result;
use hotad_engine::data::picture::{ImageSpec, convert_channels};
use hotad_engine::device::Device;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_kernels::resize::{Filter, resize};

pub use augmentation::Augmentation;
pub use embedding::{Embedding, Fusion};
pub use settings::FeatureSettings;
pub use source::Source;

/// A network whose inner maps can be had.
pub trait Extractor: Send + Sync {
    /// What images it takes.
    fn image(&self) -> ImageSpec;

    /// The layers that it can be cut after, from the image inwards.
    fn cuts(&self) -> Vec<String>;

    /// Where it is cut unless a setting says otherwise: numbers of [`Extractor::cuts`], ascending.
    fn usual(&self) -> Vec<usize>;

    /// The maps `[n, rows, columns, channels]` at some cuts, given in ascending order, of images in 0..1.
    ///
    /// # Errors
    /// When the batch has another shape than [`Extractor::image`] says.
    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Tensors>;
}

/// Images `[n, h, w, c]` on a device as an extractor takes them: resized (bilinear, antialiased), gray made of colour or
/// repeated.
///
/// # Errors
/// When the batch is no map, or the device is out of memory.
pub fn fitted(images: &Tensor, spec: ImageSpec, device: &Device) -> Result<Tensor> {
    let [n, height, width, channels] = images.nhwc()?;
    if (height, width, channels) == (spec.height, spec.width, spec.channels) {
        return images.to(device);
    }
    let mut fitted = HostBuffer::try_uninit(n * height * width * spec.channels)?;
    convert_channels((&images.values()?, channels), (&mut fitted, spec.channels));
    if (height, width) != (spec.height, spec.width) {
        let (shape, size) = ([n, height, width, spec.channels], (spec.height, spec.width));
        let whole = std::mem::replace(&mut fitted, HostBuffer::try_uninit(n * spec.len())?);
        resize(&whole[..], shape, size, Filter::BilinearAntialias, &mut fitted[..])?;
    }
    Tensor::from_buffer(Buffer::Host(fitted), &[n, spec.height, spec.width, spec.channels])?.to(device)
}
