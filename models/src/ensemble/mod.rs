//! Ensembles of trained models (papers/feature-ensemble-thesis).
//!
//! Of features ([`features`]): the maps of heterogeneous members, fused by principal components, under one head;
//! the thesis's claim is that this is more robust than any member, and than fusing outputs. Of outputs ([`scores`]): calibrated
//! scores and anomaly maps, for comparison. Either is one self-contained file that holds its members.

pub mod calibration;
pub mod combination;
pub mod evidence;
pub mod features;
pub mod fused;
pub mod isotonic;
pub mod logistic;
pub mod member_maps;
pub mod scores;

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Error, Result};

use crate::fit::FitContext;

/// The images that a whole takes whose members take these: the largest size, colour if one sees colour.
fn common_image(members: impl Iterator<Item = ImageSpec>, gray: bool) -> ImageSpec {
    let whole = members.reduce(|a, b| ImageSpec {
        height: a.height.max(b.height),
        width: a.width.max(b.width),
        channels: a.channels.max(b.channels),
    });
    let image = whole.unwrap_or(ImageSpec { height: 128, width: 128, channels: 3 });
    ImageSpec { channels: if gray { 1 } else { image.channels }, ..image }
}

/// Fails when there are no members to build on.
fn require_members(context: &FitContext, method: &str) -> Result<()> {
    if context.members.len() < 2 {
        let given = context.members.len();
        let reason = format!("{method} wants two members at least, {given} given");
        return Err(Error::Argument { name: "members", reason });
    }
    Ok(())
}
