//! What is `auto` among the settings: alpha, lambda and how many images of the bank are searched by synthetic cracks, the image score
//! by synthetic defects of every kind, all over held-out normal images.

use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Result, interrupt};

use super::decomposition::residual;
use super::lambda::{Found, Trials, lambdas, lambdas_beside};
use super::spread::Spread;
use super::{ImageScore, Paedid};
use crate::fit::FitContext;
use crate::prior::BackgroundPrior;
use crate::synthetic::{Cracks, Purpose, cracks, defects};

/// Alphas that are tried.
const ALPHAS: [f64; 6] = [0.03, 0.1, 0.2, 0.3, 0.5, 1.0];

/// Most similar images that are searched, where that is tried beside all.
const SIMILAR: usize = 10;

/// Image scores that are tried, and their names; the first among equals is taken.
const SCORES: [(ImageScore, &str); 3] =
    [(ImageScore::Patch, "patch"), (ImageScore::Standardised, "standardised"), (ImageScore::Map, "map")];

/// Images scored together.
const BATCH: usize = 8;

/// Settings with the Dice they reach.
#[derive(Clone, Copy)]
struct Chosen {
    dice: f64,
    alpha: f64,
    lambda: f32,
    similar: usize,
}

impl Chosen {
    /// What is said of it.
    fn line(&self, decomposes: bool, cracks: usize) -> String {
        let Self { dice, alpha, lambda, similar } = self;
        let lambda = if decomposes { format!(", lambda {lambda:.2e}") } else { String::new() };
        format!("chose alpha {alpha}{lambda}, similar {similar}: Dice {dice:.4} on {cracks} synthetic cracks")
    }
}

/// A search for the settings with the largest Dice on synthetic cracks.
struct Search<'a> {
    model: &'a mut Paedid,
    cracks: &'a Cracks,
    /// The cracks on the device of the model.
    images: Tensor,
    /// Whether there is a decomposition, and so a lambda.
    decomposes: bool,
    best: Chosen,
}

impl Search<'_> {
    fn trials(&self) -> Trials<'_> {
        Trials { settings: &self.model.config.decomposition, cracks: self.cracks, images: &self.images }
    }

    /// The largest Dice of the difference from a background as it is.
    fn undecomposed(&self, background: &Tensor) -> Result<f64> {
        interrupt::check()?;
        let maps = residual(&self.images, background.view())?;
        Ok(self.cracks.best_dice(&maps.into_vec()?).map_or(0.0, |(dice, _)| dice))
    }

    /// Tries every alpha with every lambda.
    fn attempt(&mut self, similar: usize, alphas: &[f64], lambdas: &[f32]) -> Result<()> {
        self.model.prior.similar = similar;
        for alpha in alphas.iter().copied() {
            self.model.prior.alpha = alpha;
            let background = self.model.prior.background(&self.images)?;
            let Found { dice, lambda } = match self.decomposes {
                true => self.trials().best_of(&background, lambdas, Found::nothing(lambdas[0]))?,
                false => Found { dice: self.undecomposed(&background)?, lambda: lambdas[0] },
            };
            if dice > self.best.dice {
                self.best = Chosen { dice, alpha, lambda, similar };
            }
        }
        Ok(())
    }
}

impl Paedid {
    /// Sets what is `auto`, and measures what distances are of normal images. Without decomposition (PAE) there is no lambda.
    ///
    /// # Errors
    /// When a held-out image cannot be read.
    pub(super) fn choose(&mut self, context: &FitContext, decomposes: bool) -> Result<()> {
        let chosen = self.choose_for_cracks(context, decomposes)?;
        (self.prior.alpha, self.prior.similar) = (chosen.alpha, chosen.similar);
        self.lambda = decomposes.then_some(chosen.lambda);
        let change = self.config.augmentation.drawn_by(context.seed);
        self.spread = Some(Spread::measured(&self.prior, self.image, change, context)?);
        if self.score == ImageScore::Auto {
            self.score = self.choose_score(context)?;
        }
        Ok(())
    }

    /// Alpha, lambda and the images searched, as far as they are `auto`, with the largest Dice on synthetic cracks: all pairs of the
    /// first two with all images searched, then every alpha with few, then lambdas beside the best.
    fn choose_for_cracks(&mut self, context: &FitContext, decomposes: bool) -> Result<Chosen> {
        let alphas = self.config.alpha.fixed().map_or(ALPHAS.to_vec(), |a| vec![a]);
        let lambdas: Vec<f32> = match self.config.decomposition.lambda.fixed() {
            Some(lambda) => vec![lambda as f32],
            None if decomposes => lambdas(self.image),
            None => vec![1.0],
        };
        let fewer = self.config.similar.is_auto() && SIMILAR < self.prior.bank.shape().1;
        let best =
            Chosen { dice: f64::NEG_INFINITY, alpha: alphas[0], lambda: lambdas[0], similar: self.prior.similar };
        if alphas.len() * lambdas.len() == 1 && !fewer {
            return Ok(best);
        }
        let cracks = cracks(context.holdout, self.image, context.seed)?;
        let images = cracks.images.to(context.device)?;
        let mut search = Search { model: self, cracks: &cracks, images, decomposes, best };
        search.attempt(best.similar, &alphas, &lambdas)?;
        if fewer {
            search.attempt(SIMILAR, &alphas, &[search.best.lambda])?;
        }
        if lambdas.len() > 1 {
            let Chosen { similar, alpha, lambda, .. } = search.best;
            search.attempt(similar, &[alpha], &lambdas_beside(lambda))?;
        }
        let best = search.best;
        context.observer.say(&best.line(decomposes, cracks.len()));
        Ok(best)
    }

    /// The image score with the largest image AUROC, mean over the kinds of defects.
    fn choose_score(&self, context: &FitContext) -> Result<ImageScore> {
        let kinds = defects(context.holdout, self.image, context.seed, Purpose::Settings)?;
        let mut normal = vec![Vec::new(); SCORES.len()];
        for_all(&Images::new(context.holdout, self.image), BATCH, |batch| {
            interrupt::check()?;
            let scores = self.all_scores(&batch.images)?;
            normal.iter_mut().zip(scores).for_each(|(normal, scores)| normal.extend(scores));
            Ok(())
        })?;
        let mut auroc = vec![0.0; SCORES.len()];
        for kind in &kinds {
            interrupt::check()?;
            for ((auroc, normal), defective) in auroc.iter_mut().zip(&normal).zip(self.all_scores(&kind.images)?) {
                let all = normal.iter().map(|s| (*s, false)).chain(defective.into_iter().map(|s| (s, true)));
                *auroc += Ranking::new(all).auroc().unwrap_or(0.0) / kinds.len() as f64;
            }
        }
        let best = (1..SCORES.len()).fold(0, |best, i| if auroc[i] > auroc[best] { i } else { best });
        let each: Vec<String> = SCORES.iter().zip(&auroc).map(|((_, name), v)| format!("{name} {v:.4}")).collect();
        let (score, name) = SCORES[best];
        let line = format!("chose score {name}: mean image AUROC over {} kinds of synthetic defects", kinds.len());
        context.observer.say(&format!("{line}: {}", each.join(", ")));
        Ok(score)
    }

    /// Image scores of each kind of [`SCORES`].
    fn all_scores(&self, images: &Tensor) -> Result<Vec<Vec<f32>>> {
        let aligned = self.aligned(images)?;
        let images = aligned.as_ref().map_or(images, |aligned| &aligned.images);
        let images = images.to(self.prior.autoencoder.params.device())?;
        let (maps, replaced) = self.maps(&images, &Until::done())?;
        let values = |(kind, _): &(ImageScore, _)| -> Result<Vec<f32>> {
            let evidence = self.evidence(*kind, &maps, &replaced)?.to_vec()?;
            Ok(self.image_scores(*kind, &evidence).into_vec())
        };
        SCORES.iter().map(values).collect()
    }
}
