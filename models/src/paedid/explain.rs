//! What happens to an image inside PAEDID (figures 5 to 9): the distance of its patches to the bank, which of them are replaced,
//! the background prior, and what the decomposition makes of both.

use hotad_engine::Result;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;

use super::Paedid;
use super::decomposition::{Decomposition, residual};
use crate::autoencoder::Latent;
use crate::explanation::{Explanation, Illustration};

/// What the table in a report is about.
pub const EXPLANATION: Explanation = Explanation {
    heading: "Decomposition",
    text: "1 - cosine of each patch to its nearest in the bank, patches that are replaced by it, the background prior that is \
           decoded, the background L, and the defect |S| = |X - L|. Distances and defects are each scaled to their largest.",
};

/// Pictures of each image of a batch, step by step.
pub fn illustrations(
    model: &Paedid,
    images: &Tensor,
    decomposition: Option<Decomposition>,
) -> Result<Vec<Vec<Illustration>>> {
    let (image, latent) = (model.image, model.prior.autoencoder.network.latent());
    let steps = model.prior.steps(images)?;
    let background = decomposition.map(|d| d.backgrounds(images, &steps.images, &Until::done())).transpose()?;
    let defect = residual(images, background.as_ref().unwrap_or(&steps.images).view())?.into_vec()?;
    let (prior, decomposed) = (steps.images.values()?, background.map(|b| b.values().map(|v| v.to_vec())).transpose()?);
    let one = |i: usize| -> Vec<Illustration> {
        let distance = enlarged(|at| steps.distance[i * latent.locations() + at], latent, image);
        let replaced = enlarged(|at| steps.mask[i * latent.locations() + at] as f32, latent, image);
        let whole = |values: &[f32]| picture(values[i * image.len()..][..image.len()].to_vec(), image);
        let pixels = image.height * image.width;
        let gray = ImageSpec { channels: 1, ..image };
        let mut all = vec![
            ("1 - cosine", picture(to_largest(distance), gray)),
            ("replaced", picture(replaced, gray)),
            ("background prior", whole(&prior)),
        ];
        all.extend(decomposed.as_ref().map(|l| ("background L", whole(l))));
        all.push(("defect |S|", picture(to_largest(defect[i * pixels..][..pixels].to_vec()), gray)));
        let cell =
            |(column, picture): (&str, Picture)| Illustration { row: "steps".into(), column: column.into(), picture };
        all.into_iter().map(cell).collect()
    };
    Ok((0..images.shape()[0]).map(one).collect())
}

fn picture(mut values: Vec<f32>, image: ImageSpec) -> Picture {
    values.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    Picture { height: image.height, width: image.width, channels: image.channels, values }
}

/// Values divided by their largest.
fn to_largest(mut values: Vec<f32>) -> Vec<f32> {
    let largest = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    values.iter_mut().for_each(|v| *v /= largest);
    values
}

/// A map over patches at the size of the image, each patch a rectangle.
fn enlarged(patches: impl Fn(usize) -> f32, Latent { rows, columns, .. }: Latent, image: ImageSpec) -> Vec<f32> {
    let at = |y: usize, x: usize| patches(y * rows / image.height * columns + x * columns / image.width);
    (0..image.height * image.width).map(|i| at(i / image.width, i % image.width)).collect()
}
