//! The feature-level ensemble: feature maps of the members, brought to one size, joined and reduced to their principal
//! components (global transformation block), or reduced member by member and joined (individual block); then a head that
//! tells normal patches from others ([`super::fused`]).
//!
//! The head is by default the Mahalanobis distance to the Gaussian of the location (PaDiM's idea), on the components as they are:
//! of all that was compared on mvtec_transistor, mvtec_leather_crops and elpv_mono it ranks images best and costs least
//! (docs/results.md). The thesis's own head is SimpleNet's discriminator, without its adapter (section 4.1). Components
//! should be whitened for it: they come in order of variance, but anomalies often lie in what varies least, and noise of one
//! deviation on all axes would be larger than the features on the small axes and negligible on the large. The deviation of the noise is drawn from
//! a range, in units of the features' own (1 where they are whitened). Left open by the thesis: whether every member's
//! features get the same total variance before (`standardise`); neighbourhoods are averaged as in SimpleNet.

use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::fused::{FeatureEnsemble, Head};
use super::{common_image, member_maps, require_members};
use crate::config::{CORESET, Settings, ShareOrCount, require, settings};
use crate::features::embedding::{Part, Reduction};
use crate::features::pca::Components;
use crate::features::settings::{Layers, NEIGHBOURHOODS, is_neighbourhood};
use crate::features::{Augmentation, Embedding, Fusion, Source};
use crate::fit::FitContext;
use crate::method::Method;
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

/// Principal components: a share of the variance, or how many.
const MAPS: ShareOrCount = ShareOrCount { most: 65_536 };

settings! {
    /// Settings.
    pub struct Config {
        /// "global" (principal components of all members' maps together) or "individual" (of each member's, joined)
        fusion: Fusion = Fusion::Global, for Shapes;
        /// share of the variance that is kept, below 1, or the number of maps (of each member's with "individual")
        maps: f64 = 0.999, allowed MAPS if |v| MAPS.contains(*v), for Shapes;
        /// whether every member's features get the same total variance before
        standardise: bool = false, for Shapes;
        /// whether all maps get the same variance after the reduction; for head = "discriminator"
        whiten: bool = false, for Shapes;
        /// side of the square that features are averaged over; 1 for none
        neighbourhood: usize = 3, allowed NEIGHBOURHOODS if |v| is_neighbourhood(*v), for Shapes;
        /// whether each member's own anomaly map is one more map, by the mean and deviation of held-out normal images
        member_maps: bool = false, for Shapes;
        /// "mahalanobis" (to the Gaussian of the location), "discriminator" (SimpleNet's), "global-mahalanobis" (to one of all
        /// locations) or "nearest" (in a bank of normal patches)
        head: HeadKind = HeadKind::Mahalanobis, for Shapes;
        /// with head = "discriminator": least and largest deviation of the noise that stands for anomalies, in units of the
        /// features' own
        noise_range: [f64; 2] = [0.25, 2.0];
        /// with head = "nearest": vectors that the bank keeps, a share of the patches of the training images, or their number from 1 on
        coreset: f64 = 0.1, allowed CORESET if |v| CORESET.contains(*v);
        ..augmentation: Augmentation = Augmentation::default();
        ..discriminator: HeadSettings = HeadSettings::default();
    }
}

impl Settings for Config {
    fn check_together(&self) -> Result<()> {
        let [least, most] = self.noise_range;
        let rises = least > 0.0 && least <= most && most <= 100.0;
        require(rises, "noise_range", format!("[{least}, {most}]"), "two rising numbers above 0, 100 at most")
    }
}

/// Fuses the members' features and fits the head.
///
/// # Errors
/// Too few members, one without feature maps, more maps asked for than there are; broken images, divergence, interruption.
pub(super) fn fit(config: Config, context: &FitContext) -> Result<FeatureEnsemble> {
    require_members(context, FeatureEnsemble::NAME)?;
    if context.init.is_some() && config.head != HeadKind::Discriminator {
        let reason = "only head = \"discriminator\" trains a network that could start from a trained one".into();
        return Err(Error::Argument { name: "init", reason });
    }
    let mut parts = Vec::with_capacity(context.members.len());
    for path in context.members {
        let (source, cuts) = Source::read(path, None, &Layers::Word("auto".into()), &context.reading())?;
        parts.push(Part { source, cuts });
    }
    let image = common_image(parts.iter().map(|p| p.source.extractor().image()), context.gray);
    let mut embedding = Embedding::new(parts, image, config.neighbourhood, context.device)?;
    match context.init {
        Some(start) => {
            // The head has learned to see these components; others, of other images, are turned or mirrored.
            start.check_features(&embedding)?;
            embedding = start.embedding(context)?;
        }
        None => reduce(&mut embedding, &config, context)?,
    }
    if !config.member_maps {
        let head = Head::fit(&config, &embedding, context)?;
        return Ok(FeatureEnsemble::new(config, embedding, head));
    }
    let (learned, held_out) = member_maps::standards(&embedding, context)?;
    if learned.iter().all(Option::is_none) {
        let reason = "setting member_maps = true: no member has an anomaly map; all are plain networks";
        return Err(Error::Config(reason.into()));
    }
    match context.init {
        Some(_) => embedding.set_standards(learned),
        None => embedding.add_member_maps(learned)?,
    }
    let head = Head::fit(&config, &embedding, context)?;
    embedding.set_standards(held_out);
    Ok(FeatureEnsemble::new(config, embedding, head))
}

/// Fits the principal components that the settings ask for.
fn reduce(embedding: &mut Embedding, config: &Config, context: &FitContext) -> Result<()> {
    let keep = if config.maps < 1.0 { Components::Share(config.maps) } else { Components::Count(config.maps as usize) };
    let channels: usize = embedding.channels().iter().sum();
    context.observer.say(&format!("fitting principal components of {channels} maps"));
    let Config { fusion, standardise, whiten, .. } = *config;
    let kept = embedding.fit(context.train, Reduction { fusion, keep, standardise, whiten })?;
    context.observer.say(&format!("{} maps keep {:.1} % of the variance", embedding.dimensions(), 100.0 * kept));
    Ok(())
}
