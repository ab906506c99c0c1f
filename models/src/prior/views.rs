//! Further views of normal images, whose latent vectors enter the memory bank beside those of the images as they are.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A kind of further views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BankView {
    /// Left and right exchanged.
    FlipHorizontal,
    /// Top and bottom exchanged.
    FlipVertical,
    /// Two views: values times 0.9 and 1.1, limited to 1.
    Gain,
    /// Four views: moved by half a patch up, down, left and right; the border is repeated.
    Shift,
}

/// Factors of values under [`BankView::Gain`].
const GAINS: [f32; 2] = [0.9, 1.1];

/// Where the rows, or the columns, of a view are taken from.
#[derive(Clone, Copy)]
enum Axis {
    Same,
    Mirrored,
    /// So many pixels further on.
    Shifted(isize),
}

impl Axis {
    fn source(self, at: usize, count: usize) -> usize {
        match self {
            Self::Same => at,
            Self::Mirrored => count - 1 - at,
            Self::Shifted(by) => at.saturating_add_signed(by).min(count - 1),
        }
    }
}

/// One view.
#[derive(Clone, Copy)]
struct View {
    rows: Axis,
    columns: Axis,
    gain: f32,
}

impl View {
    const SAME: Self = Self { rows: Axis::Same, columns: Axis::Same, gain: 1.0 };

    /// Writes the view of one image, `[h, w, c]`.
    fn write(self, image: &[f32], [h, w, c]: [usize; 3], to: &mut [f32]) {
        for (at, to) in to.chunks_exact_mut(c).enumerate() {
            let (y, x) = (self.rows.source(at / w, h), self.columns.source(at % w, w));
            let from = &image[(y * w + x) * c..][..c];
            to.iter_mut().zip(from).for_each(|(to, v)| *to = (v * self.gain).min(1.0));
        }
    }
}

impl BankView {
    /// The views of this kind; a patch has `patch` rows and columns of pixels.
    fn views(self, patch: usize) -> Vec<View> {
        let half = (patch / 2) as isize;
        match self {
            Self::FlipHorizontal => vec![View { columns: Axis::Mirrored, ..View::SAME }],
            Self::FlipVertical => vec![View { rows: Axis::Mirrored, ..View::SAME }],
            Self::Gain => GAINS.map(|gain| View { gain, ..View::SAME }).to_vec(),
            Self::Shift => [-half, half]
                .into_iter()
                .flat_map(|by| {
                    let moved = Axis::Shifted(by);
                    [View { rows: moved, ..View::SAME }, View { columns: moved, ..View::SAME }]
                })
                .collect(),
        }
    }
}

/// Vectors that each image has in a bank at each location: its own, then those of its views.
pub fn vectors_of_image(kinds: &[BankView]) -> usize {
    1 + kinds.iter().map(|kind| kind.views(0).len()).sum::<usize>()
}

/// The views of a batch `[n, h, w, c]`, each of its shape, on the host.
///
/// # Errors
/// When it is no batch of images, or its device is lost.
pub fn views_of(kinds: &[BankView], images: &Tensor, patch: usize) -> Result<Vec<Tensor>> {
    let [_, h, w, c] = images.nhwc()?;
    let values = images.values()?;
    let view = |view: View| {
        let mut changed = vec![0.0; values.len()];
        let each = values.par_chunks_exact(h * w * c).zip(changed.par_chunks_exact_mut(h * w * c));
        each.for_each(|(image, to)| view.write(image, [h, w, c], to));
        Tensor::new(changed, images.shape())
    };
    kinds.iter().flat_map(|kind| kind.views(patch)).map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The views of an image of 4 x 4 pixels, of which one row is `row`, or its transpose.
    fn views(kind: BankView, transposed: bool) -> Vec<Vec<f32>> {
        let row = [0.0, 0.2, 0.4, 0.95];
        let image = (0..16).map(|i| row[if transposed { i / 4 } else { i % 4 }]).collect();
        let views = views_of(&[kind], &Tensor::new(image, &[1, 4, 4, 1]).expect("fits"), 2).expect("an image");
        assert_eq!(1 + views.len(), vectors_of_image(&[kind]));
        let line = |view: &Tensor| {
            let values = view.values().expect("on the host");
            (0..4).map(|i| values[if transposed { 4 * i } else { i }]).collect()
        };
        views.iter().map(line).collect()
    }

    #[test]
    fn views_are_flipped_lighter_and_moved() {
        let (same, flipped) = (vec![0.0, 0.2, 0.4, 0.95], vec![0.95, 0.4, 0.2, 0.0]);
        assert_eq!(views(BankView::FlipHorizontal, false), [&flipped[..]]);
        assert_eq!(views(BankView::FlipHorizontal, true), [&same[..]]);
        assert_eq!(views(BankView::FlipVertical, true), [&flipped[..]]);
        assert_eq!(views(BankView::FlipVertical, false), [&same[..]]);
        let gains = views(BankView::Gain, false);
        assert!((gains[0][3] - 0.855).abs() < 1e-6 && (gains[1][1] - 0.22).abs() < 1e-6, "{gains:?}");
        assert_eq!(gains[1][3], 1.0, "values end at 1");
        let (back, on) = (vec![0.0, 0.0, 0.2, 0.4], vec![0.2, 0.4, 0.95, 0.95]);
        assert_eq!(views(BankView::Shift, false), [same.clone(), back.clone(), same.clone(), on.clone()]);
        assert_eq!(views(BankView::Shift, true), [back, same.clone(), on, same]);
    }
}
