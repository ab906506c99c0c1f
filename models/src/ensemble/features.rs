//! The feature-level ensemble: feature maps of the members, brought to one size, joined and reduced to their principal
//! components (global transformation block), or reduced member by member and joined (individual block); then a head that
//! tells normal patches from others ([`super::fused`]).
//!
//! The head is by default the Mahalanobis distance to the Gaussian of the location (PaDiM's idea), on the components as they are:
//! of all that was compared on mvtec_transistor, mvtec_leather_crops and elpv_mono it ranks images best and costs least
//! (docs/results.md). The thesis's own head is SimpleNet's discriminator, without its adapter (section 4.1). Components
//! should be whitened for it: they come in order of variance, but anomalies often lie in what varies least, and noise of one
//! deviation on all axes would swamp the small ones and be invisible on the large. The deviation of the noise is drawn from
//! a range, in units of the features' own (1 where they are whitened). Left open by the thesis: whether every member's
//! features get the same total variance before (`standardise`); neighbourhoods are averaged as in SimpleNet.

use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::fused::{FeatureEnsemble, Head};
use super::{common_image, member_maps, require_members};
use crate::config::{Doc, Settings, join, require};
use crate::detector::FitContext;
use crate::features::embedding::{Part, Reduction};
use crate::features::pca::Keep;
use crate::features::settings::{Layers, check_neighbourhood};
use crate::features::{Embedding, Fusion, Source};
use crate::simplenet::head::HeadSettings;

/// What tells normal patches from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// SimpleNet's discriminator.
    Discriminator,
    /// Mahalanobis distance to the Gaussian of the location (PaDiM's idea).
    Mahalanobis,
    /// Mahalanobis distance to one Gaussian of all patches.
    GlobalMahalanobis,
    /// Distance to the nearest of a bank of normal patches (PatchCore's idea).
    Nearest,
}

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
    /// Whether maps get the same variance after the reduction.
    pub whiten: bool,
    /// Side of the neighbourhood that features are averaged over.
    pub neighbourhood: usize,
    /// Whether the members' own anomaly maps are features too.
    pub member_maps: bool,
    /// What tells normal patches from others.
    pub head: HeadKind,
    /// Least and largest deviation of the noise.
    pub noise_range: [f64; 2],
    /// Share of the patches that the bank keeps, or their number from 1 on.
    pub coreset: f64,
    /// Discriminator.
    #[serde(flatten)]
    pub discriminator: HeadSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fusion: Fusion::Global,
            maps: 0.999,
            standardise: false,
            whiten: false,
            neighbourhood: 3,
            member_maps: false,
            head: HeadKind::Mahalanobis,
            noise_range: [0.25, 2.0],
            coreset: 0.1,
            discriminator: HeadSettings::default(),
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &join::<9, 5, 14>(
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
            ("whiten", "whether all maps get the same variance after the reduction; for head = \"discriminator\""),
            ("neighbourhood", "side of the square that features are averaged over; odd, 1 for none"),
            (
                "member_maps",
                "whether each member's own anomaly map is one more map, by the mean and deviation of held-out normal images",
            ),
            (
                "head",
                "\"mahalanobis\" (to the Gaussian of the location), \"discriminator\" (SimpleNet's), \"global-mahalanobis\" (to one of all locations) or \"nearest\" (in a bank of normal patches)",
            ),
            (
                "noise_range",
                "with head = \"discriminator\": least and largest deviation of the noise that stands for anomalies, in units of the features' own",
            ),
            ("coreset", "with head = \"nearest\": share of the patches that the bank keeps, or their number from 1 on"),
        ],
        HeadSettings::DOCS,
    );

    const SCORING: &'static [&'static str] = &["blur"];

    fn check(&self) -> Result<()> {
        let share_or_count = |v: f64, most: f64| (v > 0.0 && v < 1.0) || (v >= 1.0 && v.fract() == 0.0 && v <= most);
        let allowed = "a share above 0 and below 1, or a whole number";
        require(share_or_count(self.maps, 65536.0), "maps", self.maps, allowed)?;
        require(share_or_count(self.coreset, 1e7), "coreset", self.coreset, allowed)?;
        check_neighbourhood(self.neighbourhood)?;
        let [least, most] = self.noise_range;
        let rises = least > 0.0 && least <= most && most <= 100.0;
        require(rises, "noise_range", format!("[{least}, {most}]"), "two rising numbers above 0, 100 at most")?;
        self.discriminator.check()
    }
}

/// Fuses the members' features and fits the head.
///
/// # Errors
/// Too few members, one without feature maps, more maps asked for than there are; broken images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<FeatureEnsemble> {
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
    context.observer.say(&format!("fitting principal components of {channels} maps"));
    let Config { fusion, standardise, whiten, .. } = config;
    let kept = embedding.fit(context.train, Reduction { fusion, keep, standardise, whiten })?;
    context.observer.say(&format!("{} maps keep {:.1} % of the variance", embedding.dimensions(), 100.0 * kept));
    if !config.member_maps {
        let head = Head::fit(&config, &embedding, context)?;
        return Ok(FeatureEnsemble::new(config, embedding, head));
    }
    let (learned, held_out) = member_maps::standards(&embedding, context)?;
    if learned.iter().all(Option::is_none) {
        let reason = "setting member_maps = true: no member has an anomaly map; all are plain networks";
        return Err(Error::Config(reason.into()));
    }
    embedding.add_member_maps(learned)?;
    let head = Head::fit(&config, &embedding, context)?;
    embedding.set_standards(held_out);
    Ok(FeatureEnsemble::new(config, embedding, head))
}
