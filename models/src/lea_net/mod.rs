//! LEA-Net: layer-wise external attention (Katafuchi and Tokunaga 2022, papers/lea-net).
//!
//! 1. A colour network learns normal images; its CIEDE2000 map of any image is the prior knowledge
//!    (section 3-1, [`crate::color_unet`]). Another model's map may take its place ([`Guide`]).
//! 2. An attention network (CAAN, table 1) sees the map; the features g_p of its stage p become the
//!    attention map M = sigmoid(mean over channels of g_p) (equation 2).
//! 3. A detection network (ADN) sees the image; at the same point p its features become (1 + M) f
//!    (equation 3). "Direct attention" takes the map itself, resized, as M.
//! 4. Both learn together on images labelled normal or defective, with maps by networks that have not learned from them
//!    ([`Labelled`]): binary cross-entropy of one plus that of the other (equation 1). The image score is the detection
//!    network's probability; the anomaly map is the colour network's.
//!
//! What the paper leaves open: no validation set is watched, the weights of the epoch with the lowest
//! training loss are kept; images are standardised by ImageNet's colours, so that torchvision's weights
//! can be used. Of table 1's counts, 3.042 M is met by the MobileNet-based network with squeeze-and-
//! excitation of full width (see [`crate::networks::mobilenet`]); 4.491 M is less than the eight 3x3
//! convolutions of that very row have (4.719 M), and the network here has the 4.9 M that tables 3 to 8
//! add for it.

mod config;
mod cross_validation;
mod guide;
mod labelled;
mod learner;
mod networks;
mod verdicts;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::State;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Activation, Error, Result, random};
use hotad_kernels::device::Buffer;
use serde_json::Value;
use smallvec::smallvec;

use crate::anomaly_map::AnomalyMap;
use crate::color_unet::{Recolouring, require_colour};
use crate::config::Settings;
use crate::detector::{Detector, Exportable, Recolours, Score, Scores};
use crate::explanation::{Explainable, Explanation, Illustration};
use crate::export::{self, Exported};
use crate::features::Extractor;
use crate::fit::FitContext;
use crate::method::{BuiltOn, CrossValidation, LoadContext, Method};
use crate::networks::layer::{Prepared, Weights};
use crate::networks::{POINTS, part};

pub use config::{Attention, Config, DetectionNetwork, Input};
pub use cross_validation::cross_validate;
pub use guide::Guide;
use labelled::seen;
pub use labelled::{Labelled, Material};
use learner::{learn, norms};
use networks::{ATTENTION, DETECTION};
pub use networks::{Networks, attention_network};

/// A trained LEA-Net.
pub struct LeaNet {
    config: Config,
    guide: Guide,
    /// Weights of both networks, names prefixed.
    state: State,
    ready: Ready,
    planned: Planned,
}

/// Both networks, ready for inference.
struct Ready {
    networks: Networks,
    detection: Prepared,
    attention: Option<Prepared>,
    device: Device,
}

impl Ready {
    fn new(config: &Config, state: &State, device: &Device) -> Result<Self> {
        let networks = Networks::new(config);
        let detection = Prepared::new(&networks.detection.layers(), &part(state, DETECTION), device)?;
        let attention = match &networks.attention {
            Some(network) => Some(Prepared::new(&network.layers(), &part(state, ATTENTION), device)?),
            None => None,
        };
        Ok(Self { networks, detection, attention, device: device.clone() })
    }

    /// Probabilities that images on its device are defective, with their anomaly maps as networks see them.
    fn probabilities(&self, images: &Tensor, maps: &Tensor) -> Result<Buffer> {
        let attention = self.attention.as_ref().map(Weights::Prepared);
        let detection = Weights::Prepared(&self.detection);
        let (logits, _) = self.networks.run(&detection, attention.as_ref(), images, maps, false)?;
        let mut values = logits.into_buffer()?;
        Activation::Sigmoid.apply(&mut values);
        Ok(values)
    }
}

/// Refuses gray images where colours guide.
fn require_guide(config: &Config, context: &FitContext) -> Result<()> {
    let instead = "set guide to a trained model, such as one of paedid";
    if config.guide.is_empty() { require_colour(context, LeaNet::NAME, instead) } else { Ok(()) }
}

/// Numbers of the defective images that are learned from, in order.
fn positives(config: &Config, context: &FitContext) -> Vec<usize> {
    let all = context.defective.len();
    let wanted = positives_for(config.positive_share, context.train.len(), all);
    let order = random::shuffled(all, context.seed, "positives", 0);
    order.into_iter().take(wanted).collect()
}

/// How many positives make up `share` of all images beside `negatives`; all for a share of 0.
fn positives_for(share: f64, negatives: usize, positives: usize) -> usize {
    if share == 0.0 {
        return positives;
    }
    ((share / (1.0 - share) * negatives as f64).round() as usize).clamp(1.min(positives), positives)
}

impl Method for LeaNet {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "lea-net";
    const SUMMARY: &'static str =
        "colour anomaly maps as layer-wise attention of a classifier (LEA-Net); learns from defects too";
    const SUPERVISED: bool = true;
    const WARM_START: bool = true;
    const CROSS_VALIDATION: Option<CrossValidation> =
        Some(|settings, context, folds, watch| cross_validate(&Config::from_table(settings)?, context, folds, watch));
    const EXPLAINABLE: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        require_guide(&config, context)?;
        if context.defective.is_empty() {
            let reason = "learns from defective images too, and there are none: put some into test/DEFECT or positive/, of two parts of each kind or more";
            return Err(Error::Config(format!("lea-net {reason}, or use color-unet")));
        }
        // Before hours go into colours.
        let networks = Networks::new(&config);
        networks.known_weights(&config)?;
        let (good, bad) = context.groups.split_at(context.train.len());
        let chosen = positives(&config, context);
        let paths: Vec<PathBuf> =
            context.train.iter().cloned().chain(chosen.iter().map(|i| context.defective[*i].clone())).collect();
        let groups: Vec<usize> = good.iter().copied().chain(chosen.iter().map(|i| bad[*i])).collect();
        let labels = (0..paths.len()).map(|i| f32::from(u8::from(i >= good.len()))).collect();
        norms(&networks, &config).check(paths.len(), context.observer)?;
        let material = Material { images: context.train.with(&paths), labels, groups: &groups };
        let (guide, data) = material.guided(&config, context)?;
        let params = learn(&networks, &config, &data, &context.of_stage(None))?;
        LeaNet::new(config, guide, params.values()?, context.device)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let guide = Guide::restore(&config, &file.config["guide"], &file.tensors, context)?;
        Self::new(config, guide, container::restore(&file.tensors, "network.")?, context.device)
    }

    fn built_on(config: &Config) -> Vec<BuiltOn> {
        (!config.guide.is_empty()).then(|| ("guide", PathBuf::from(&config.guide))).into_iter().collect()
    }
}

impl LeaNet {
    fn new(config: Config, guide: Guide, state: State, device: &Device) -> Result<Self> {
        let ready = Ready::new(&config, &state, device)?;
        Ok(Self { config, guide, state, ready, planned: Planned::default() })
    }

    /// With fresh weights: as fast as a trained one, and as wise as a coin.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn untrained(config: Config, seed: u64, device: &Device) -> Result<Self> {
        let guide = Guide::Colour(Box::new(Recolouring::untrained(config.colour(), seed, device)?));
        let state = Networks::new(&config).init(&config, seed)?.values()?;
        Self::new(config, guide, state, device)
    }
}

impl Detector for LeaNet {
    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let queued = |images: &Tensor| {
            let maps = self.guide.maps(images)?;
            let images = images.to(&self.ready.device)?;
            Ok(smallvec![self.ready.probabilities(&images, &seen(&maps)?)?, maps.into_buffer()?])
        };
        let values = self.planned.run(images, &self.ready.device, queued)?;
        let maps = AnomalyMap::of_batch(&values[1], self.config.image());
        Ok(values[0].iter().zip(maps).map(|(value, map)| Score { value: *value, map }).collect())
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config, "guide": self.guide.saved() })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = container::store(&self.state, "network.")?;
        tensors.extend(self.guide.tensors()?);
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        Some(self)
    }

    fn as_recolouring(&self) -> Option<&dyn Recolours> {
        self.guide.colour().map(|network| network as &dyn Recolours)
    }

    fn as_explainable(&self) -> Option<&dyn Explainable> {
        Some(self)
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Explainable for LeaNet {
    fn explanation(&self) -> Result<Explanation> {
        if self.config.attention == Attention::None {
            let reason = "this model was trained with attention = \"none\"; train one with attention".into();
            return Err(Error::Argument { name: "explain", reason });
        }
        Ok(Explanation {
            heading: "Attention inside",
            text: "At every attention point: the mean of the features over channels before attention, the attention map, and the features after it. Features of one point share a scale; each attention map has its own.",
        })
    }

    /// Figure 5: at every point, the mean over channels of the features before attention, the attention
    /// map, and the features after it. Pictures of features share a scale with their other row.
    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        let maps = seen(&self.guide.maps(images)?)?;
        let images = images.to(&self.ready.device)?;
        let attention = self.ready.attention.as_ref().map(Weights::Prepared);
        let detection = Weights::Prepared(&self.ready.detection);
        let inside = self.ready.networks.inside(&detection, attention.as_ref(), &images, &maps)?;
        let mut all = vec![Vec::new(); images.shape()[0]];
        for (point, (features, attention)) in inside.iter().enumerate() {
            let [n, h, w, c] = features.nhwc()?;
            let (features, attention) = (features.values()?, attention.values()?);
            for i in 0..n {
                let pixels = i * h * w * c..(i + 1) * h * w * c;
                let before: Vec<f32> =
                    features[pixels].chunks_exact(c).map(|p| p.iter().sum::<f32>() / c as f32).collect();
                let map = &attention[i * h * w..(i + 1) * h * w];
                let after: Vec<f32> = before.iter().zip(map).map(|(b, m)| (1.0 + m) * b).collect();
                let scale = range(before.iter().chain(&after));
                let column =
                    format!("point {}{}", point + 1, if point + 1 == self.config.point { " (used)" } else { "" });
                let rows =
                    [("features before attention", &before[..], scale), ("attention map", map, range(map.iter()))];
                for (row, values, scale) in rows.into_iter().chain([("features after attention", &after[..], scale)]) {
                    let picture = Picture { height: h, width: w, channels: 1, values: shown(values, scale) };
                    all[i].push(Illustration { row: row.into(), column: column.clone(), picture });
                }
            }
        }
        Ok(all)
    }
}

impl Exportable for LeaNet {
    fn export(&self) -> Result<Exported> {
        let [detection, attention] = [DETECTION, ATTENTION].map(|prefix| part(&self.state, prefix));
        let Some(colour) = self.guide.colour() else {
            let why = format!("its guide is another model, {}; export the file of that one", self.config.guide);
            return Err(export::not_plain(Self::NAME, &why));
        };
        export::lea_net(&self.ready.networks, colour, &detection, &attention)
    }
}

/// The stages of the detection network, without attention.
impl Extractor for LeaNet {
    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    fn cuts(&self) -> Vec<String> {
        (1..=POINTS).map(|p| format!("stage{p}")).collect()
    }

    /// An eighth and a sixteenth of the image.
    fn usual(&self) -> Vec<usize> {
        vec![2, 3]
    }

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Tensors> {
        let maps = seen(&self.guide.maps(images)?)?;
        let (images, last) = (images.to(&self.ready.device)?, cuts.last().map_or(0, |c| c + 1));
        let taps = self.ready.networks.maps(&Weights::Prepared(&self.ready.detection), &images, &maps, last)?;
        Ok(cuts.iter().map(|c| taps[*c].clone()).collect())
    }
}

/// Smallest and largest value.
fn range<'a>(values: impl Iterator<Item = &'a f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}

/// Values on a scale from 0 to 1.
fn shown(values: &[f32], (low, high): (f32, f32)) -> Vec<f32> {
    values.iter().map(|v| (v - low) / (high - low).max(1e-12)).collect()
}
