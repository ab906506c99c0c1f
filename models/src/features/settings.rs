//! Settings of feature maps that PatchCore and SimpleNet share.

use std::path::PathBuf;

use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::backbone::{Network, installed, shipped};
use super::embedding::{Embedding, Part, extractor};
use super::source::SIZES;
use super::{Extractor, Source};
use crate::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
use crate::config::{Channels, EPOCHS, Settings, SidesChoice, require, settings};
use crate::fit::{FitContext, Schedule, stage};
use crate::method::BuiltOn;

/// Widths of the autoencoder that is trained where no backbone is given.
const WIDTHS: [usize; 4] = [16, 32, 64, 128];

/// Image size of the autoencoder.
const OWN_SIZE: usize = 128;

/// Where an extractor is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    /// Names.
    Names(Vec<String>),
    /// `"auto"`: where the extractor is usually cut.
    Word(String),
}

impl Layers {
    /// Numbers of the cuts, ascending.
    ///
    /// # Errors
    /// When the extractor has no such layer: lists those it has.
    pub fn of(&self, extractor: &dyn Extractor) -> Result<Vec<usize>> {
        self.among(&extractor.cuts(), &extractor.usual())
    }

    /// Numbers of the cuts, ascending, of a network that has these layers and is usually cut at some of them.
    ///
    /// # Errors
    /// When the network has no such layer: lists those it has.
    pub fn among(&self, known: &[String], usual: &[usize]) -> Result<Vec<usize>> {
        let Self::Names(names) = self else { return Ok(usual.to_vec()) };
        let find = |name: &String| {
            known.iter().position(|k| k == name).ok_or_else(|| {
                Error::Config(format!("setting layers: there is no {name:?}; this network has {}", known.join(", ")))
            })
        };
        let mut cuts = names.iter().map(find).collect::<Result<Vec<usize>>>()?;
        cuts.sort_unstable();
        cuts.dedup();
        Ok(cuts)
    }

    /// Fails for anything but `"auto"` or some names.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Word(word) => require(word == "auto", "layers", format!("{word:?}"), "\"auto\" or a list of names"),
            Self::Names(names) => require(!names.is_empty(), "layers", "[]", "\"auto\" or a list of names"),
        }
    }
}

/// Where features come from.
enum BackboneChoice {
    /// Trained on the images.
    Autoencoder,
    /// Part of the program.
    Shipped,
    /// A backbone or a model.
    File(PathBuf),
}

/// What is said of the best installed network: which it is, and which ranks first.
fn best_of_installed(network: Network) -> String {
    let (own, first) = (network.facts(), Network::all().next().unwrap_or(network).facts());
    let better = if own.name == first.name {
        String::new()
    } else {
        format!("; {} ranks first, its weights: {}", first.name, first.source)
    };
    format!("features of backbone {}, the best that is installed{better}", own.name)
}

/// What [`is_neighbourhood`] says in words.
pub const NEIGHBOURHOODS: &str = "1, 3, 5, 7 or 9";

/// Whether features can be averaged over a neighbourhood of this side.
pub fn is_neighbourhood(side: usize) -> bool {
    side % 2 == 1 && side <= 9
}

settings! {
    /// Settings.
    pub struct FeatureSettings {
        /// "auto" (the best that is installed, else hotad's own), the name of an installed backbone, a file of weights, a model
        /// of hotad; "": an autoencoder is trained on the images
        backbone: String = "auto".into();
        /// where the backbone is cut: a list of names (hotad backbone info prints them), or "auto": at an eighth and a sixteenth
        /// of the image
        layers: Layers = Layers::Word("auto".into()), for Shapes;
        /// rows and columns the images are brought to, one number or [rows, columns], or "auto": those of the backbone, without
        /// one 128
        image_size: SidesChoice = SidesChoice::auto(), allowed "\"auto\", or 32 to 1024" if |v| v.is_auto_or_in(&SIZES), for Shapes;
        /// "auto" (3, or what a gray model or gray images ask for), 1 or 3
        channels: Channels = Channels::auto(), for Shapes;
        /// side of the square that features are averaged over; 1 for none
        neighbourhood: usize = 3, allowed NEIGHBOURHOODS if |v| is_neighbourhood(*v), for Shapes;
        /// without a backbone: most epochs of the autoencoder
        backbone_epochs: usize = 40, in EPOCHS, for Length;
    }
}

impl Settings for FeatureSettings {
    fn check_together(&self) -> Result<()> {
        self.layers.check()?;
        self.channels.resolve(true).map(drop)
    }
}

impl FeatureSettings {
    /// Where features come from, and what to say about the choice.
    fn backbone(&self) -> Result<(BackboneChoice, String)> {
        if self.backbone.is_empty() {
            let choice = "no backbone wanted: training an autoencoder whose encoder gives the features";
            return Ok((BackboneChoice::Autoencoder, choice.into()));
        }
        Ok(match self.backbone.as_str() {
            "auto" => match installed::best()? {
                Some((network, path)) => (BackboneChoice::File(path), best_of_installed(network)),
                None => {
                    let choice = "features of hotad's own backbone; no other is installed (hotad backbone list)";
                    (BackboneChoice::Shipped, choice.into())
                }
            },
            shipped::NAME if installed::find(shipped::NAME).is_err() => {
                (BackboneChoice::Shipped, "features of hotad's own backbone".into())
            }
            name => (BackboneChoice::File(installed::find(name)?), format!("features of backbone {name}")),
        })
    }

    /// The trained model that gives the features, where one does. What cannot be read is none here; [`FeatureSettings::embedding`]
    /// refuses it.
    pub fn built_on(&self) -> Vec<BuiltOn> {
        match self.backbone() {
            Ok((BackboneChoice::File(path), _)) if matches!(Source::is_model(&path), Ok(true)) => {
                vec![("backbone", path)]
            }
            _ => Vec::new(),
        }
    }

    /// The embedding that they describe; trains the autoencoder where there is no backbone.
    ///
    /// # Errors
    /// A backbone that cannot be used; broken images, divergence, interruption.
    pub fn embedding(&self, context: &FitContext, method: &str) -> Result<Embedding> {
        let (origin, choice) = self.backbone()?;
        context.observer.say(&choice);
        let size = self.image_size.fixed();
        let (source, cuts) = match origin {
            BackboneChoice::Autoencoder => {
                let source = Source::Encoder(Box::new(self.autoencoder(context, method)?));
                let cuts = self.layers.of(source.extractor())?;
                (source, cuts)
            }
            BackboneChoice::Shipped => Source::shipped(size, &self.layers, context.device)?,
            BackboneChoice::File(path) => Source::read(&path, size, &self.layers, &context.reading())?,
        };
        let own = source.extractor().image();
        let channels = if context.gray { 1 } else { own.channels };
        // A model sees its own size, whatever is stored here; the whole works at that size too unless told otherwise.
        let image = size.unwrap_or(own.into()).image(self.channels.resolve(channels == 1)?);
        Embedding::new(vec![Part { source, cuts }], image, self.neighbourhood, context.device)
    }

    fn autoencoder(&self, context: &FitContext, method: &str) -> Result<TrainedAutoencoder> {
        let size = self.image_size.fixed().unwrap_or(OWN_SIZE.into()).next_multiples_of(1 << WIDTHS.len());
        let image = size.image(self.channels.resolve(context.gray)?);
        let schedule = Schedule { epochs: self.backbone_epochs, batch: 16, patience: 10 };
        let settings = serde_json::json!({ "image_size": self.image_size, "channels": self.channels });
        let stage = FitContext { stage: Some(stage::BACKBONE), ..*context };
        let network = PatchAutoencoder::new(&WIDTHS, image);
        // A layer that does not exist is refused before the network is trained.
        self.layers.among(&network.cuts(), &[])?;
        TrainedAutoencoder::fit(network, (&schedule, 1e-3), (&stage, &extractor(0)), (method, &settings))
    }
}
