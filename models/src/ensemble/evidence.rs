//! What output-level ensembles are fitted to: members' scores of held-out normal images and, for what needs defects, of
//! synthetic ones drawn on the same images. No test image is looked at.

use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::synth::{Kind, draw};
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Error, Result, interrupt, random};

use crate::detector::{Score, Scores};
use crate::features::fitted;
use crate::fit::FitContext;
use crate::member::Member;

/// Images scored together.
const BATCH: usize = 8;

/// Pixels of a normal map that are kept: every so many.
const STRIDE: usize = 17;

/// Most images that defects are drawn on.
const DRAWN_ON: usize = 32;

/// The kinds of defects that are drawn, one of each on every image.
const KINDS: [Kind; 3] = [Kind::Crack, Kind::Scratch, Kind::Spot];

/// Scores of normal images and of defects; or of their pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Of held-out normal images.
    pub normal: Vec<f32>,
    /// Of synthetic defects; empty where none were asked for.
    pub defective: Vec<f32>,
}

/// What one member says of them. The same images and pixels for every member, in the same order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Image scores.
    pub images: Sample,
    /// Values of anomaly maps at the size of the ensemble.
    pub pixels: Sample,
}

/// What a member says of images at the size of the ensemble, its maps at that size too.
///
/// # Errors
/// What the member reports, and numbers that are not finite.
pub fn scored(member: &Member, images: &Tensor, size: (usize, usize)) -> Result<Scores> {
    let spec = member.model.detector.image();
    let scores = member.model.score_until(&fitted(images, spec, &Device::CPU)?, &Until::done())?;
    if scores.iter().any(|s| !s.is_finite()) {
        let reason = format!("member {} gives scores that are not finite; train it again", member.name);
        return Err(Error::Config(reason));
    }
    let at_size = |score: Score| Ok(Score { value: score.value, map: score.map.resized(size)? });
    scores.into_iter().map(at_size).collect()
}

/// What members say of the held-out normal images, and of synthetic defects on them when asked for.
///
/// # Errors
/// Broken images, what members report, interruption.
pub fn collect(members: &[Member], image: ImageSpec, defects: bool, context: &FitContext) -> Result<Vec<Evidence>> {
    let size = (image.height, image.width);
    let mut all = vec![Evidence::default(); members.len()];
    for_all(&Images::new(context.holdout, image), BATCH, |batch| {
        interrupt::check()?;
        for (member, evidence) in members.iter().zip(&mut all) {
            for score in scored(member, &batch.images, size)? {
                evidence.images.normal.push(score.value);
                evidence.pixels.normal.extend(score.map.values.iter().step_by(STRIDE));
            }
        }
        Ok(())
    })?;
    if defects {
        let order = random::shuffled(context.holdout.len(), context.seed, "images of ensemble defects", 0);
        for (i, at) in order.into_iter().take(DRAWN_ON).enumerate() {
            interrupt::check()?;
            add_defects(members, &mut all, (i, &context.holdout.read(at, image)?), context)?;
        }
    }
    Ok(all)
}

/// Draws one defect of each kind on an image and asks the members.
fn add_defects(
    members: &[Member],
    all: &mut [Evidence],
    (index, normal): (usize, &Picture),
    context: &FitContext,
) -> Result<()> {
    let (mut values, mut masks) = (Vec::new(), Vec::new());
    for (k, kind) in KINDS.into_iter().enumerate() {
        let mut rng = random::stream(context.seed, "ensemble defect", (index * KINDS.len() + k) as u64);
        let (mut picture, mut mask) = draw(kind, normal, &mut rng);
        context.holdout.undraw_outside(&mut picture, &mut mask);
        // A defect that shows nothing teaches nothing.
        if mask.defect.contains(&true) {
            values.extend(picture.values);
            masks.push(mask.defect);
        }
    }
    if masks.is_empty() {
        return Ok(());
    }
    let images = Tensor::new(values, &[masks.len(), normal.height, normal.width, normal.channels])?;
    for (member, evidence) in members.iter().zip(all) {
        for (score, mask) in scored(member, &images, (normal.height, normal.width))?.iter().zip(&masks) {
            evidence.images.defective.push(score.value);
            let hit = score.map.values.iter().zip(mask).filter(|(_, hit)| **hit).map(|(v, _)| *v);
            evidence.pixels.defective.extend(hit);
        }
    }
    Ok(())
}
