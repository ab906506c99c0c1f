//! Stratified k-fold cross-validation; what it reports is in [`crate::cross_validation`]. Folds divide no part.
//!
//! Every fold trains its own colour network on its own normal images (a tenth of them watched for early
//! stopping), so that nothing of a test image is ever learned from. F1 is taken at a probability of 0.5.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::groups;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::observer::{Observer, Progress};
use hotad_engine::threads::pooled;
use hotad_engine::{Error, Result, interrupt, random};

use super::config::Config;
use super::learner::{Labelled, learn};
use super::networks::Networks;
use super::{COLOUR, LeaNet, Ready, positives_for};
use crate::color_unet::{Recolouring, require_colour};
use crate::cross_validation::{CrossValidationTable, PointResult, Prediction, Row};
use crate::fit::FitContext;
use crate::method::Method;

/// Share of a fold's normal images that the colour network's training is watched with.
const WATCHED: usize = 10;

/// Cross-validates the rows and points of the settings on all labelled images: the context's normal
/// images and its defective ones.
///
/// `watch` sees the table of the folds so far when a fold is done.
///
/// # Errors
/// When a class has fewer parts than folds, training fails, or what `watch` reports.
pub fn cross_validate(
    config: &Config,
    context: &FitContext,
    folds: usize,
    watch: &dyn Fn(&CrossValidationTable) -> Result<()>,
) -> Result<CrossValidationTable> {
    require_colour(context, LeaNet::NAME)?;
    let normal = context.train;
    let order = random::shuffled(context.defective.len(), context.seed, "positives", 0);
    let wanted = positives_for(config.positive_share, normal.len(), context.defective.len());
    let mut chosen: Vec<usize> = order.into_iter().take(wanted).collect();
    chosen.sort_by_key(|i| &context.defective[*i]);
    let defective: Vec<PathBuf> = chosen.iter().map(|i| context.defective[*i].clone()).collect();
    let (good_parts, bad_parts) = context.groups.split_at(normal.len());
    let bad_parts: Vec<usize> = chosen.iter().map(|i| bad_parts[*i]).collect();
    for (kind, parts) in [("normal", good_parts), ("defective", &bad_parts)] {
        let n = parts.iter().collect::<HashSet<_>>().len();
        if n < folds {
            let reason = format!("{n} {kind} parts are fewer than {folds} folds; use fewer folds or add images");
            return Err(Error::Argument { name: "folds", reason });
        }
    }
    let mut variants = Vec::new();
    for name in &config.rows {
        let (row, sweeps) = config.row(name)?;
        Networks::new(&row).known_weights(&row)?;
        let points: Vec<Option<usize>> =
            if sweeps { config.points.iter().copied().map(Some).collect() } else { vec![None] };
        variants.push((row, points));
    }
    let mut predictions: Vec<Vec<Vec<Prediction>>> =
        variants.iter().map(|(_, points)| vec![Vec::new(); points.len()]).collect();
    let class: Vec<bool> = (0..normal.len() + defective.len()).map(|i| i >= normal.len()).collect();
    let dealt = groups::folds(&[good_parts, &bad_parts].concat(), &class, folds, context.seed);
    let (good, bad) = dealt.split_at(normal.len());
    if let Some(fold) = (0..folds).find(|fold| !good.contains(fold) || !bad.contains(fold)) {
        let reason = format!("fold {} of {folds} lacks a class, as no part is divided; use fewer folds", fold + 1);
        return Err(Error::Argument { name: "folds", reason });
    }
    let parts_of: HashMap<&PathBuf, usize> = normal
        .iter()
        .zip(good_parts)
        .chain(defective.iter().zip(&bad_parts))
        .map(|(path, part)| (path, *part))
        .collect();
    let mut table =
        CrossValidationTable { positive: defective.len(), negative: normal.len(), folds, done: 0, rows: Vec::new() };
    for fold in 0..folds {
        let say = |line: &str| context.observer.say(&format!("fold {}/{folds}: {line}", fold + 1));
        let observer = WithLines { observer: context.observer, say: &say };
        let data = Fold { normal, defective: &defective, good, bad, parts: good_parts, fold };
        let (train, test) = data.labelled(config, &FitContext { observer: &observer, ..*context })?;
        for ((row, points), results) in variants.iter().zip(&mut predictions) {
            for (point, all) in points.iter().zip(results) {
                let row = Config { point: point.unwrap_or(row.point), ..row.clone() };
                let verdicts = evaluate(&row, &train, &test, context)?;
                let of = |((path, defective), probability): ((&PathBuf, bool), f32)| Prediction {
                    path: path.display().to_string(),
                    fold: fold + 1,
                    defective,
                    probability,
                    part: parts_of[path],
                };
                let labels = test.labels.iter().map(|label| *label > 0.5);
                all.extend(test.paths.iter().zip(labels).zip(verdicts).map(of));
                let result = PointResult::new(*point, all.clone());
                say(&format!("{}: F1 {:.3}", title(&row, *point), result.f1.folds[fold]));
            }
        }
        table.done = fold + 1;
        table.rows = variants.iter().zip(&predictions).map(|((row, points), all)| row_of(row, points, all)).collect();
        table.compare(context.seed);
        watch(&table)?;
    }
    Ok(table)
}

fn row_of(config: &Config, points: &[Option<usize>], predictions: &[Vec<Prediction>]) -> Row {
    let results = points.iter().zip(predictions).map(|(point, all)| PointResult::new(*point, all.clone())).collect();
    Row::new(title(config, None), Networks::new(config).count(), results)
}

fn title(config: &Config, point: Option<usize>) -> String {
    let point = point.map(|p| format!(", point {p}")).unwrap_or_default();
    format!("{}{}{}{point}", config.detector.title(), config.input.title(), config.attention.title())
}

/// An observer whose lines go to a function.
struct WithLines<'a> {
    observer: &'a dyn Observer,
    say: &'a dyn Fn(&str),
}

impl Observer for WithLines<'_> {
    fn say(&self, line: &str) {
        (self.say)(line);
    }

    fn warn(&self, warning: &str) {
        self.observer.warn(warning);
    }

    fn detail(&self, line: &str) {
        self.observer.detail(line);
    }

    fn progress(&self, progress: &Progress) {
        self.observer.progress(progress);
    }

    fn ended(&self) {
        self.observer.ended();
    }
}

/// One fold: which images are tested on.
struct Fold<'a> {
    normal: ImageFiles<'a>,
    defective: &'a [PathBuf],
    good: &'a [usize],
    bad: &'a [usize],
    /// The part that each normal image is of.
    parts: &'a [usize],
    fold: usize,
}

impl Fold<'_> {
    /// Images of a class that are tested on, or the others.
    fn some(&self, paths: &[PathBuf], folds: &[usize], tested: bool) -> Vec<PathBuf> {
        let chosen = paths.iter().zip(folds).filter(|(_, f)| (**f == self.fold) == tested);
        chosen.map(|(p, _)| p.clone()).collect()
    }

    /// Trains the colour network and makes the maps: images to learn from, images to test on.
    fn labelled(&self, config: &Config, context: &FitContext) -> Result<(Labelled, Labelled)> {
        let normal: Vec<usize> = (0..self.normal.len()).filter(|i| self.good[*i] != self.fold).collect();
        let watched = normal.len().div_ceil(WATCHED).min(normal.len().saturating_sub(1));
        let order = random::shuffled(normal.len(), context.seed, "colour watch", self.fold as u64);
        let parts: Vec<usize> = normal.iter().map(|i| self.parts[*i]).collect();
        let (train, holdout) = groups::set_aside(&parts, watched, &order);
        let pick = |some: &[usize]| some.iter().map(|i| self.normal[normal[*i]].clone()).collect::<Vec<_>>();
        let (train, holdout) = (pick(&train), pick(&holdout));
        let inner = FitContext {
            train: context.train.with(&train),
            holdout: context.train.with(&holdout),
            model_path: None,
            resume: false,
            ..*context
        };
        let recolouring = Recolouring::fit(&config.colour(), &inner, COLOUR)?;
        let set = |tested: bool| {
            let (good, bad) = (self.some(&self.normal, self.good, tested), self.some(self.defective, self.bad, tested));
            let labels = good.iter().map(|_| 0.0).chain(bad.iter().map(|_| 1.0)).collect();
            let paths: Vec<PathBuf> = good.into_iter().chain(bad).collect();
            Labelled::new(context.train.with(&paths), labels, &recolouring, config.batch)
        };
        Ok((set(false)?, set(true)?))
    }
}

/// Probabilities of the images that are tested on, by one variant.
fn evaluate(config: &Config, train: &Labelled, test: &Labelled, context: &FitContext) -> Result<Vec<f32>> {
    let observer = WithLines { observer: context.observer, say: &|_| {} };
    let inner = FitContext { model_path: None, resume: false, observer: &observer, ..*context };
    let params = learn(&Networks::new(config), config, train, &inner)?;
    let ready = Ready::new(config, &params.values()?, context.device)?;
    let mut all = Vec::with_capacity(test.paths.len());
    for_all(&Images::new(test.files(), config.image()), config.batch, |batch| {
        interrupt::check()?;
        let maps = test.maps_of(&batch, config.image(), context.device)?;
        all.extend(pooled(|| ready.probabilities(&batch.images, &maps))?);
        Ok(())
    })?;
    Ok(all)
}
