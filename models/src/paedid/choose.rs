//! What is `auto` among the settings: alpha and lambda by synthetic cracks, the image score by synthetic defects of every kind, all
//! over held-out normal images.

use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Result, interrupt};

use super::decomposition::{lambdas, residual};
use super::{ImageScore, Paedid};
use crate::fit::FitContext;
use crate::prior::BackgroundPrior;
use crate::synthetic::{Purpose, cracks, defects};

/// Alphas that are tried.
const ALPHAS: [f64; 6] = [0.03, 0.1, 0.2, 0.3, 0.5, 1.0];

/// Image scores that are tried, and their names; the first among equals is taken.
const SCORES: [(ImageScore, &str); 3] =
    [(ImageScore::Patch, "patch"), (ImageScore::Standardised, "standardised"), (ImageScore::Map, "map")];

/// Images scored together.
const BATCH: usize = 8;

/// Alpha and lambda with the Dice they reach.
struct Chosen {
    dice: f64,
    alpha: f64,
    lambda: f32,
}

impl Paedid {
    /// Sets what is `auto`. Without decomposition (PAE) there is no lambda.
    ///
    /// # Errors
    /// When a held-out image cannot be read.
    pub(super) fn choose(&mut self, context: &FitContext, decomposes: bool) -> Result<()> {
        let chosen = self.choose_alpha(context, decomposes)?;
        self.prior.alpha = chosen.alpha;
        self.lambda = decomposes.then_some(chosen.lambda);
        if self.score == ImageScore::Auto {
            self.score = self.choose_score(context)?;
        }
        Ok(())
    }

    /// The pair of alpha and lambda, as far as they are `auto`, with the largest Dice on synthetic cracks.
    fn choose_alpha(&mut self, context: &FitContext, decomposes: bool) -> Result<Chosen> {
        let alphas = self.config.alpha.fixed().map_or(ALPHAS.to_vec(), |a| vec![a]);
        let lambdas: Vec<f32> = match self.config.lambda.fixed() {
            Some(lambda) => vec![lambda as f32],
            None if decomposes => lambdas(self.image),
            None => vec![1.0],
        };
        let mut best = Chosen { dice: f64::NEG_INFINITY, alpha: alphas[0], lambda: lambdas[0] };
        if alphas.len() * lambdas.len() == 1 {
            return Ok(best);
        }
        let cracks = cracks(context.holdout, self.image, context.seed)?;
        let images = cracks.images.to(context.device)?;
        for alpha in alphas {
            self.prior.alpha = alpha;
            let background = self.prior.background(&images)?;
            for lambda in &lambdas {
                interrupt::check()?;
                let maps = match decomposes {
                    true => self.decomposition(*lambda).maps(&images, &background)?,
                    false => residual(&images, background.view())?,
                };
                let dice = cracks.best_dice(&maps.into_vec()?).map_or(0.0, |(dice, _)| dice);
                if dice > best.dice {
                    best = Chosen { dice, alpha, lambda: *lambda };
                }
            }
        }
        let lambda = if decomposes { format!(", lambda {:.2e}", best.lambda) } else { String::new() };
        let line =
            format!("chose alpha {}{lambda}: Dice {:.4} on {} synthetic cracks", best.alpha, best.dice, cracks.len());
        context.observer.say(&line);
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
        let images = images.to(self.prior.autoencoder.params.device())?;
        let (maps, replaced) = self.maps(&images, &Until::done())?;
        let values = |(kind, _): &(ImageScore, _)| -> Result<Vec<f32>> {
            let evidence = self.evidence(*kind, &maps, &replaced)?.to_vec()?;
            Ok(self.image_scores(*kind, &evidence).into_vec())
        };
        SCORES.iter().map(values).collect()
    }
}
