//! The feature-level ensemble: feature maps of the members, brought to one size, joined and reduced to their principal
//! components (global transformation block), or reduced member by member and joined (individual block); then SimpleNet's
//! discriminator.
//!
//! Left open by the thesis: every member's features get the same total variance before (`standardise`), else the one with
//! the largest numbers would be the only one that counts; neighbourhoods are averaged as in SimpleNet.

use hotad_engine::Result;
use serde::{Deserialize, Serialize};

use super::{common_image, require_members};
use crate::config::{Doc, Settings, join, require};
use crate::detector::FitContext;
use crate::features::embedding::Part;
use crate::features::pca::Keep;
use crate::features::settings::Layers;
use crate::features::{Embedding, Fusion, Source};
use crate::simplenet::Discriminated;
use crate::simplenet::head::HeadSettings;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Transformation block.
    pub fusion: Fusion,
    /// Share of the variance that is kept, or number of maps from 1 on.
    pub maps: f64,
    /// Whether members get the same variance.
    pub standardise: bool,
    /// Side of the neighbourhood that features are averaged over.
    pub neighbourhood: usize,
    /// Adapter and discriminator.
    #[serde(flatten)]
    pub head: HeadSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self { fusion: Fusion::Global, maps: 0.999, standardise: true, neighbourhood: 3, head: HeadSettings::default() }
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &join::<4, 7, 11>(
        [
            (
                "fusion",
                "\"global\" (principal components of all members' maps together) or \"individual\" (of each member's, joined)",
            ),
            (
                "maps",
                "share of the variance that is kept, below 1, or the number of maps (of each member's with \"individual\")",
            ),
            ("standardise", "whether every member's features get the same total variance before"),
            ("neighbourhood", "side of the square that features are averaged over; odd, 1 for none"),
        ],
        HeadSettings::DOCS,
    );

    fn check(&self) -> Result<()> {
        let share = self.maps > 0.0 && self.maps < 1.0;
        let count = self.maps >= 1.0 && self.maps.fract() == 0.0 && self.maps <= 65536.0;
        require(share || count, "maps", self.maps, "a share above 0 and below 1, or a whole number")?;
        let side = self.neighbourhood;
        require(side % 2 == 1 && side <= 9, "neighbourhood", side, "1, 3, 5, 7 or 9")?;
        self.head.check()
    }
}

/// Fuses the members' features and trains a discriminator of them.
///
/// # Errors
/// Too few members, one without feature maps, more maps asked for than there are; broken images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<Discriminated> {
    require_members(context, "ensemble")?;
    let mut parts = Vec::with_capacity(context.members.len());
    for path in context.members {
        let (source, cuts) = Source::read(path, None, &Layers::Word("auto".into()), context.device)?;
        parts.push(Part { source, cuts });
    }
    let image = common_image(parts.iter().map(|p| p.source.extractor().image()), context.gray);
    let mut embedding = Embedding::new(parts, image, config.neighbourhood, context.device)?;
    let keep = if config.maps < 1.0 { Keep::Share(config.maps) } else { Keep::Count(config.maps as usize) };
    let channels: usize = embedding.channels().iter().sum();
    (context.say)(&format!("fitting principal components of {channels} maps"));
    let kept = embedding.fit(context.train, config.fusion, keep, config.standardise)?;
    (context.say)(&format!("{} maps keep {:.1} % of the variance", embedding.dimensions(), 100.0 * kept));
    let settings = serde_json::to_value(&config).expect("settings are plain data");
    Discriminated::fit("ensemble", settings, &config.head, embedding, context)
}
