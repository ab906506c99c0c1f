//! Colour anomalies by recolouring (Katafuchi and Tokunaga 2021; LEA-Net, section 3-1).
//!
//! A U-Net learns on normal images to predict a*b* from L* by squared error; of a test image it
//! predicts the colours a normal one would have. The CIEDE2000 difference between the image and its
//! recoloured self is the anomaly map; a high quantile of it is the image score. Early stopping watches
//! held-out normal images. Colours are varied by Fancy PCA while learning.
//!
//! The public code converts to Lab twice; here once. It divides each map by its own maximum; here a map is the
//! difference over its 99.9 % quantile on held-out normal images, so that maps of different images can be compared and
//! 1 is what hardly any normal pixel reaches; the other is a setting.

mod learner;

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::State;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Error, Result};
use hotad_kernels::recolour::{recolour, recolour_difference};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::smallvec;

use crate::anomaly_map::AnomalyMap;
use crate::config::{BATCH, EPOCHS, Interval, RATE, SHARE, Settings, damaged, settings};
use crate::detector::{Detector, Exportable, Recolours, Score, Scores};
use crate::export::{self, Exported};
use crate::features::Extractor;
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};
use crate::networks::layer::{Prepared, Weights};
use crate::networks::unet::UNet;
use crate::normal_pixels::NormalPixels;
use learner::{learn, split};

/// Scale of the anomaly map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapScale {
    /// Divided by the 99.9 % quantile over held-out normal images.
    #[default]
    Fixed,
    /// Divided by the largest value of each image, as the public code has it.
    Image,
}

settings! {
    /// Settings.
    pub struct Config {
        /// rows and columns the images are brought to
        image_size: usize = 256, allowed SIZES if |v| is_size(*v), for Shapes;
        /// channels after the first convolution (paper: 64)
        width: usize = 64, in WIDTH, for Shapes;
        /// most epochs
        epochs: usize = 500, in EPOCHS, for Length;
        /// images of one step
        batch: usize = 16, in BATCH;
        /// learning rate (Adam; paper: 1e-3)
        lr: f64 = 1e-3, in RATE;
        /// epochs without a lower validation loss before stopping; 0 never stops early
        patience: usize = 20, for Length;
        /// deviation of the colour augmentation, as a share of the colours' own; 0 for none
        fancy_pca: f64 = 0.08, in SHARE;
        /// probability of dropout after the first three up blocks (the public code: 0.5; paper: none)
        dropout: f64 = 0.0, in DROPOUT;
        /// maps are colour differences divided by: "fixed", their 99.9 % quantile over held-out normal images, or "image",
        /// the largest value of each image
        map_scale: MapScale = MapScale::Fixed, for Scoring;
        /// quantile of the anomaly map that is the image score
        score_quantile: f64 = 0.995, in Interval::LeftOpen(0.0, 1.0), for Scoring;
    }
}

impl Settings for Config {}

/// Channels after the first convolution.
pub const WIDTH: Interval<usize> = Interval::Closed(4, 256);

/// Probability of dropout.
pub const DROPOUT: Interval<f64> = Interval::RightOpen(0.0, 1.0);

/// What [`is_size`] says in words.
pub const SIZES: &str = "32, 64, 128, 256, 512, 768 or 1024";

/// Whether the network can see images of this size.
pub fn is_size(size: usize) -> bool {
    size <= 1024 && if size < 256 { size >= 32 && size.is_power_of_two() } else { size.is_multiple_of(256) }
}

impl Config {
    fn image(&self) -> ImageSpec {
        ImageSpec { height: self.image_size, width: self.image_size, channels: 3 }
    }

    fn network(&self) -> UNet {
        UNet::new(1, 2, self.image_size, self.width)
    }
}

/// Refuses images without colour for a method; says what can be done instead.
///
/// # Errors
/// When all images are gray.
pub fn require_colour(context: &FitContext, method: &str, instead: &str) -> Result<()> {
    if context.gray {
        let reason = format!("{method}: the images are gray, so there is no colour to predict; {instead}");
        return Err(Error::Config(reason));
    }
    Ok(())
}

/// Smallest unit of maps, where held-out images are predicted to the bit. A difference of 1 can just be seen.
const LEAST_UNIT: f32 = 1e-3;

/// A network that colours images as normal ones are coloured.
pub struct Recolouring {
    config: Config,
    unet: UNet,
    state: State,
    /// The colour difference (CIEDE2000) that is 1 in maps.
    unit: f32,
    ready: Prepared,
    device: Device,
    planned: Planned,
}

impl Recolouring {
    /// Trains on the context's normal images; the unit of its maps is found on the held-out ones, or without any on those.
    /// `prefix` is that of its tensors in the model that training may start from; without one it starts afresh.
    ///
    /// # Errors
    /// Gray or broken images, divergence, interruption.
    pub fn fit(config: &Config, context: &FitContext, prefix: Option<&str>) -> Result<Self> {
        require_colour(context, ColorUnet::NAME, "use paedid")?;
        let state = learn(config, context, prefix)?.values()?;
        let fixed = Config { map_scale: MapScale::Fixed, ..config.clone() };
        let in_differences = Self::new(fixed, state.clone(), 1.0, context.device)?;
        let normal = if context.holdout.is_empty() { context.train } else { context.holdout };
        let maps = |images: &Tensor| Ok(in_differences.maps(images)?.values()?.into_owned());
        let unit = NormalPixels::of(normal, config.image(), config.batch, maps)?.high.max(LEAST_UNIT);
        Self::new(config.clone(), state, unit, context.device)
    }

    /// From the weights of a trained one and the unit of its maps.
    ///
    /// # Errors
    /// When a weight is missing or has another shape, or the unit is no positive number.
    pub fn new(config: Config, state: State, unit: f32, device: &Device) -> Result<Self> {
        if !unit.is_finite() || unit < LEAST_UNIT {
            return Err(damaged(format!("a unit of maps of {unit}")));
        }
        let unet = config.network();
        let ready = Prepared::new(&unet.layers(), &state, device)?;
        Ok(Self { config, unet, state, unit, ready, device: device.clone(), planned: Planned::default() })
    }

    /// With fresh weights.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn untrained(config: Config, seed: u64, device: &Device) -> Result<Self> {
        let state = config.network().init(seed).values()?;
        Self::new(config, state, 1.0, device)
    }

    /// Size of the images it takes.
    pub fn image(&self) -> ImageSpec {
        self.config.image()
    }

    /// The network.
    pub(crate) fn unet(&self) -> &UNet {
        &self.unet
    }

    /// Scale of its maps.
    pub(crate) fn map_scale(&self) -> MapScale {
        self.config.map_scale
    }

    /// The colour difference (CIEDE2000) that is 1 in maps, unless each image has its own scale.
    pub fn unit(&self) -> f32 {
        self.unit
    }

    /// Its weights, for the model file.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Predicted colours `[n, h, w, 2]`.
    fn colours(&self, images: &Tensor) -> Result<Tensor> {
        let (lightness, _) = split(images)?;
        self.unet.run(&Weights::Prepared(&self.ready), &lightness, None)
    }

    /// Colour anomaly maps `[n, h, w, 1]` of RGB images, on its device: 0 or more.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn maps(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.to(&self.device)?;
        let [n, h, w, _] = images.nhwc()?;
        let mut map = self.device.alloc(n * h * w)?;
        recolour_difference::<f32>(images.view(), self.colours(&images)?.view(), 1.0 / self.unit, &mut map)?;
        if self.config.map_scale == MapScale::Image {
            let mut values = map.into_vec()?;
            for image in values.chunks_exact_mut((h * w).max(1)) {
                // A perfect match has no largest value to divide by.
                let largest = image.iter().copied().fold(0.0, f32::max);
                image.iter_mut().for_each(|v| *v /= if largest > 0.0 { largest } else { 1.0 });
            }
            map = self.device.upload(values)?;
        }
        Tensor::from_buffer(map, &[n, h, w, 1])
    }
}

impl Recolours for Recolouring {
    fn recoloured(&self, images: &Tensor) -> Result<Vec<Picture>> {
        let images = images.to(&self.device)?;
        let [_, height, width, channels] = images.nhwc()?;
        let mut out = self.device.alloc(images.len())?;
        recolour::<f32>(images.view(), self.colours(&images)?.view(), &mut out)?;
        let values = out.into_vec()?;
        let pictures = values.chunks_exact(height * width * channels);
        Ok(pictures.map(|v| Picture { height, width, channels, values: v.to_vec() }).collect())
    }
}

/// The maps on the way down, of the lightness alone.
impl Extractor for Recolouring {
    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    fn cuts(&self) -> Vec<String> {
        self.unet.levels()
    }

    /// An eighth and a sixteenth of the image.
    fn usual(&self) -> Vec<usize> {
        vec![2, 3]
    }

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Tensors> {
        let (lightness, _) = split(&images.to(&self.device)?)?;
        let maps = self.unet.maps(&Weights::Prepared(&self.ready), &lightness, cuts.last().map_or(0, |c| c + 1))?;
        Ok(cuts.iter().map(|c| maps[*c].clone()).collect())
    }
}

/// The unit of maps that a model file tells.
///
/// # Errors
/// When there is none.
pub fn unit_of(saved: &Value) -> Result<f32> {
    saved["unit"].as_f64().map(|unit| unit as f32).ok_or_else(|| damaged("maps without a unit; train it again"))
}

/// A trained colour network as a detector of its own.
pub struct ColorUnet(Recolouring);

impl Method for ColorUnet {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "color-unet";
    const SUMMARY: &'static str = "recolouring of gray images and CIEDE2000 anomaly maps";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        Recolouring::fit(&config, context, Some("network.")).map(ColorUnet)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let unit = unit_of(&file.config)?;
        Recolouring::new(config, container::restore(&file.tensors, "network.")?, unit, context.device).map(Self)
    }
}

impl Detector for ColorUnet {
    fn image(&self) -> ImageSpec {
        self.0.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let queued = |images: &Tensor| Ok(smallvec![self.0.maps(images)?.into_buffer()?]);
        let values = self.0.planned.run(images, &self.0.device, queued)?;
        let pixels = self.0.config.image_size * self.0.config.image_size;
        let at = ((pixels - 1) as f64 * self.0.config.score_quantile).round() as usize;
        let score = |map: AnomalyMap| {
            let mut sorted = map.values.clone();
            let value = *sorted.select_nth_unstable_by(at, f32::total_cmp).1;
            Score { value, map }
        };
        Ok(AnomalyMap::of_batch(&values[0], self.image()).map(score).collect())
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.0.config, "unit": self.0.unit })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.0.state, "network.")
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        Some(&self.0)
    }

    fn as_recolouring(&self) -> Option<&dyn Recolours> {
        Some(&self.0)
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for ColorUnet {
    fn export(&self) -> Result<Exported> {
        export::recolouring(&self.0, "the quantile of the map that is the score")
    }
}
