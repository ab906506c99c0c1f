//! What a report shows of an I3AD: how an image was treated, and how scores follow from iterations and threshold.

use hotad_engine::Result;
use hotad_engine::data::picture::Picture;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;

use super::iteration::{Moment, Reached, Search};
use super::threshold::CANDIDATES;
use super::{I3ad, image_of};
use crate::explanation::{Illustration, Sweep};
use crate::residual::Residual;

/// Iterations that a report shows; 0 is the reconstruction under the checkerboards.
const SHOWN: [usize; 7] = [0, 1, 2, 5, 10, 20, 30];

/// Iterations before scores are compared over thresholds.
const ITERATIONS: usize = 10;

/// Patches along each side of the checkerboards that are compared (figure 4).
const PATCHES: [(usize, &str); 6] = [(2, "2"), (4, "4"), (6, "6"), (8, "8"), (10, "10"), (12, "12")];

/// The charts of these, one a residual.
const BY_PATCHES: [&str; 2] =
    ["iteration, SSIM from 2 to 12 patches along a side", "iteration, L2 from 2 to 12 patches along a side"];

/// Residuals that curves are drawn of.
pub const RESIDUALS: [(&str, Residual); 2] = [("SSIM", Residual::Ssim), ("L2", Residual::L2)];

impl I3ad {
    /// Reconstruction, differences and mask of each image after some iterations.
    pub(super) fn illustrations(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        let (values, n) = (images.values()?, images.shape()[0]);
        let mut all = vec![Vec::new(); n];
        let mut watch = |moment: &Moment| -> Result<()> {
            if SHOWN.contains(&moment.iteration) {
                for (k, image) in moment.images.iter().enumerate() {
                    all[*image].extend(self.shown(moment, k, image_of(&values, n, *image)));
                }
            }
            Ok(())
        };
        self.iterate(images, &Until::done(), Some(&mut watch))?;
        Ok(all)
    }

    /// One column about the `k`-th image of a batch.
    fn shown(&self, moment: &Moment, k: usize, image: &[f32]) -> impl Iterator<Item = Illustration> {
        let (reached, pixels) = (&moment.reached[k], self.config.image_size * self.config.image_size);
        // A difference of a quarter of the range is white.
        let l2 = self.map(Residual::L2, image, reached).iter().map(|v| v.sqrt() * 4.0).collect::<Vec<f32>>();
        let pictures = [
            ("reconstruction", self.picture(&reached.reconstruction, 3)),
            ("difference", self.picture(&l2, 1)),
            ("1 - SSIM", self.picture(&reached.dissimilarity, 1)),
            ("next mask", self.picture(&moment.masks[k * pixels..(k + 1) * pixels], 1)),
        ];
        let column = format!("iteration {}", moment.iteration);
        pictures.into_iter().map(move |(row, picture)| Illustration {
            row: row.into(),
            column: column.clone(),
            picture,
        })
    }

    /// A map on a scale from 0 to 1 as a picture.
    fn picture(&self, values: &[f32], channels: usize) -> Picture {
        let size = self.config.image_size;
        Picture { height: size, width: size, channels, values: values.to_vec() }
    }

    /// Figures 4 and 5: scores by iteration, from the model's own checkerboards and from those of other numbers of patches, and
    /// by threshold after 10 iterations.
    pub(super) fn curves(&self, images: &Tensor) -> Result<Vec<Vec<Sweep>>> {
        let tiles = self.tiles(images)?;
        let from = |patches| self.by_iteration(images, &tiles, self.first(&tiles, patches)?);
        let by_iteration = from(self.config.patches)?;
        let by_patches = PATCHES.iter().map(|(patches, _)| from(*patches)).collect::<Result<Vec<_>>>()?;
        let by_threshold = self.by_threshold(images, &tiles)?;
        let numbers: Vec<f32> = (0..=self.config.test_iterations).map(|i| i as f32).collect();
        let of = |image: usize| {
            let mut all = sweeps("iteration", &numbers, &by_iteration[image]);
            all.extend(sweeps("threshold u, after 10 iterations", &CANDIDATES, &by_threshold[image]));
            for (residual, chart) in BY_PATCHES.into_iter().enumerate() {
                all.extend(PATCHES.iter().zip(&by_patches).map(|((_, name), lines)| Sweep {
                    chart,
                    name,
                    x: numbers.clone(),
                    scores: lines[image][residual].clone(),
                }));
            }
            all
        };
        Ok((0..images.shape()[0]).map(of).collect())
    }

    /// Of each image and residual, the score after every iteration from the first reconstructions of its tiles.
    fn by_iteration(&self, images: &Tensor, tiles: &Tensor, first: Tensor) -> Result<Vec<[Vec<f32>; 2]>> {
        let (values, n, iterations) = (images.values()?, images.shape()[0], self.config.test_iterations);
        let mut lines = vec![[const { Vec::new() }; 2]; n];
        let mut watch = |moment: &Moment| -> Result<()> {
            for (image, reached) in moment.images.iter().zip(&moment.reached) {
                self.extend(&mut lines[*image], image_of(&values, n, *image), reached)?;
            }
            Ok(())
        };
        let last = self.iterate_from(tiles, first, &self.search(), &Until::done(), Some(&mut watch))?;
        // What an image has reached when it is done, it keeps.
        for (i, (lines, reached)) in lines.iter_mut().zip(&last).enumerate() {
            while lines[0].len() <= iterations {
                self.extend(lines, image_of(&values, n, i), reached)?;
            }
        }
        Ok(lines)
    }

    /// Of each image and residual, the score at every candidate of the threshold.
    fn by_threshold(&self, images: &Tensor, tiles: &Tensor) -> Result<Vec<[Vec<f32>; 2]>> {
        let (values, n, first) = (images.values()?, images.shape()[0], self.first(tiles, self.config.patches)?);
        let mut lines = vec![[const { Vec::new() }; 2]; n];
        for u in CANDIDATES {
            let search = Search { u, iterations: self.config.test_iterations.min(ITERATIONS), ..self.search() };
            let reached = self.iterate_from(tiles, first.clone(), &search, &Until::done(), None)?;
            for (i, reached) in reached.iter().enumerate() {
                self.extend(&mut lines[i], image_of(&values, n, i), reached)?;
            }
        }
        Ok(lines)
    }

    /// Adds the scores of where an image has got to.
    fn extend(&self, lines: &mut [Vec<f32>; 2], image: &[f32], reached: &Reached) -> Result<()> {
        for (line, (_, residual)) in lines.iter_mut().zip(RESIDUALS) {
            line.push(self.scores(residual, image, std::slice::from_ref(reached))?[0].value);
        }
        Ok(())
    }
}

/// The lines of one chart.
fn sweeps(chart: &'static str, x: &[f32], lines: &[Vec<f32>; 2]) -> Vec<Sweep> {
    let one = |((name, _), line): (&(&'static str, Residual), &Vec<f32>)| Sweep {
        chart,
        name,
        x: x.to_vec(),
        scores: line.clone(),
    };
    RESIDUALS.iter().zip(lines).map(one).collect()
}
