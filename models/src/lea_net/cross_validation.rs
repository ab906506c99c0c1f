//! Stratified k-fold cross-validation; what it reports is in [`crate::cross_validation`]. Folds divide no part.
//!
//! Every fold trains its own colour networks on its own normal images (a tenth of them watched for early
//! stopping), so that nothing of a test image is ever learned from. F1 is taken at a probability of 0.5.
//! The verdicts of finished networks, and the colour networks of the fold that is under way, are kept in checkpoints.

use std::collections::HashSet;
use std::path::PathBuf;

use hotad_engine::data::groups;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::observer::{Observer, Progress};
use hotad_engine::threads::pooled;
use hotad_engine::train::argument;
use hotad_engine::{Error, Result, interrupt, random};

use super::config::Config;
use super::labelled::{Labelled, Material};
use super::learner::{learn, norms};
use super::networks::Networks;
use super::verdicts::{Run, Verdicts};
use super::{Ready, positives, require_guide};
use crate::cross_validation::{CrossValidationTable, PointResult, Prediction, Row, f1};
use crate::fit::{FitContext, stage};

/// Share of a fold's normal images that the colour network's training is watched with.
const WATCHED: usize = 10;

/// Cross-validates the rows and points of the settings on all labelled images: the context's normal
/// images and its defective ones.
///
/// `watch` sees the table of the folds so far when a fold is done.
///
/// # Errors
/// When a class has fewer parts than folds, training fails, a checkpoint is of another run, or what `watch` reports.
pub fn cross_validate(
    config: &Config,
    context: &FitContext,
    folds: usize,
    watch: &dyn Fn(&CrossValidationTable) -> Result<()>,
) -> Result<CrossValidationTable> {
    require_guide(config, context)?;
    let variants: Vec<Variant> = config.rows.iter().map(|row| Variant::new(config, row)).collect::<Result<_>>()?;
    let images = Candidates::new(config, context, folds)?;
    let mut verdicts = Verdicts::new(config, folds, context)?;
    let (defective, all) = (images.defective.iter().filter(|flag| **flag).count(), images.paths.len());
    let (positive, negative, seeds) = (defective, all - defective, config.seeds);
    let mut table = CrossValidationTable { positive, negative, folds, seeds, done: 0, rows: Vec::new() };
    for fold in 0..folds {
        train_missing(config, context, &variants, &images, (fold, folds), &mut verdicts)?;
        table.done = fold + 1;
        table.rows = variants
            .iter()
            .enumerate()
            .map(|(row, variant)| {
                let predictions = |point| images.predictions(table.done, (row, point), config, context, &verdicts);
                variant.result(predictions)
            })
            .collect();
        table.compare(context.seed);
        watch(&table)?;
    }
    Ok(table)
}

/// One row of the table.
struct Variant {
    config: Config,
    /// Attention points that are swept; one, none, for a row without attention.
    points: Vec<Option<usize>>,
}

impl Variant {
    fn new(config: &Config, name: &str) -> Result<Self> {
        let (row, sweeps) = config.row(name)?;
        Networks::new(&row).known_weights(&row)?;
        let points = if sweeps { config.points.iter().copied().map(Some).collect() } else { vec![None] };
        Ok(Self { config: row, points })
    }

    /// The settings at a point.
    fn at(&self, point: usize) -> Config {
        Config { point: self.points[point].unwrap_or(self.config.point), ..self.config.clone() }
    }

    fn title(&self, point: Option<usize>) -> String {
        let point = point.map(|p| format!(", point {p}")).unwrap_or_default();
        format!("{}{point}", self.config.title())
    }

    fn result(&self, predictions: impl Fn(usize) -> Vec<Prediction>) -> Row {
        let results = self.points.iter().enumerate().map(|(i, point)| PointResult::new(*point, predictions(i)));
        Row::new(self.config.title(), Networks::new(&self.config).count(), results.collect())
    }
}

/// The labelled images, first the normal ones.
struct Candidates {
    paths: Vec<PathBuf>,
    defective: Vec<bool>,
    /// The part that each is of.
    groups: Vec<usize>,
    /// The fold that each is tested in.
    folds: Vec<usize>,
}

impl Candidates {
    fn new(config: &Config, context: &FitContext, folds: usize) -> Result<Self> {
        let normal = context.train;
        let mut chosen = positives(config, context);
        chosen.sort_by_key(|i| &context.defective[*i]);
        let (good, bad) = context.groups.split_at(normal.len());
        let bad: Vec<usize> = chosen.iter().map(|i| bad[*i]).collect();
        for (kind, parts) in [("normal", good), ("defective", &bad)] {
            let n = parts.iter().collect::<HashSet<_>>().len();
            if n < folds {
                let reason = format!("{n} {kind} parts are fewer than {folds} folds; use fewer folds or add images");
                return Err(Error::Argument { name: "folds", reason });
            }
        }
        let paths = normal.iter().cloned().chain(chosen.iter().map(|i| context.defective[*i].clone())).collect();
        let defective: Vec<bool> = (0..good.len() + bad.len()).map(|i| i >= good.len()).collect();
        let groups = [good, &bad].concat();
        let dealt = groups::folds(&groups, &defective, folds, context.seed);
        let (in_good, in_bad) = dealt.split_at(good.len());
        if let Some(fold) = (0..folds).find(|fold| !in_good.contains(fold) || !in_bad.contains(fold)) {
            let reason = format!("fold {} of {folds} lacks a class, as no part is divided; use fewer folds", fold + 1);
            return Err(Error::Argument { name: "folds", reason });
        }
        Ok(Self { paths, defective, groups, folds: dealt })
    }

    /// Numbers of the images that are tested in a fold.
    fn tested(&self, fold: usize) -> Vec<usize> {
        (0..self.paths.len()).filter(|i| self.folds[*i] == fold).collect()
    }

    /// Numbers of the other images: normal ones to learn from, normal ones to watch, defective ones.
    fn learned(&self, fold: usize, seed: u64) -> [Vec<usize>; 3] {
        let others = (0..self.paths.len()).filter(|i| self.folds[*i] != fold);
        let (bad, good): (Vec<usize>, Vec<usize>) = others.partition(|i| self.defective[*i]);
        let watched = good.len().div_ceil(WATCHED).min(good.len().saturating_sub(1));
        let order = random::shuffled(good.len(), seed, "colour watch", fold as u64);
        let groups: Vec<usize> = good.iter().map(|i| self.groups[*i]).collect();
        let (train, watched) = groups::set_aside(&groups, watched, &order);
        [train.iter().map(|i| good[*i]).collect(), watched.iter().map(|i| good[*i]).collect(), bad]
    }

    fn paths(&self, some: &[usize]) -> Vec<PathBuf> {
        some.iter().map(|i| self.paths[*i].clone()).collect()
    }

    fn labels(&self, some: &[usize]) -> Vec<f32> {
        some.iter().map(|i| f32::from(u8::from(self.defective[*i]))).collect()
    }

    /// The predictions of the networks of a row at a point, over the first folds and all seeds.
    fn predictions(
        &self,
        folds: usize,
        (row, point): (usize, usize),
        config: &Config,
        context: &FitContext,
        verdicts: &Verdicts,
    ) -> Vec<Prediction> {
        let runs = (0..folds).flat_map(|fold| (0..config.seeds).map(move |seed| Run { fold, row, point, seed }));
        runs.flat_map(|run| self.predicted(run, context, verdicts)).collect()
    }

    /// The predictions of one network.
    fn predicted(&self, run: Run, context: &FitContext, verdicts: &Verdicts) -> Vec<Prediction> {
        let tested = self.tested(run.fold);
        let probabilities = verdicts.get(run, tested.len()).unwrap_or_default();
        let of = |(i, probability): (&usize, &f32)| Prediction {
            path: self.paths[*i].display().to_string(),
            fold: run.fold + 1,
            defective: self.defective[*i],
            seed: context.seed.wrapping_add(run.seed as u64),
            probability: *probability,
            part: self.groups[*i],
        };
        tested.iter().zip(probabilities).map(of).collect()
    }
}

/// Trains the networks of a fold whose verdicts there are none of yet.
fn train_missing(
    config: &Config,
    context: &FitContext,
    variants: &[Variant],
    images: &Candidates,
    (fold, folds): (usize, usize),
    verdicts: &mut Verdicts,
) -> Result<()> {
    let points = |row: usize| (0..variants[row].points.len()).map(move |point| (row, point));
    let places = (0..variants.len()).flat_map(points);
    let runs = places.flat_map(|(row, point)| (0..config.seeds).map(move |seed| Run { fold, row, point, seed }));
    let tested = images.tested(fold);
    let missing: Vec<Run> = runs.filter(|run| verdicts.get(*run, tested.len()).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let say = |line: &str| context.observer.say(&format!("fold {}/{folds}: {line}", fold + 1));
    let observer = WithLines { observer: context.observer, say: &say };
    let mut chosen = context.chosen.clone();
    chosen.insert(argument("folds"), folds.into());
    chosen.insert("fold".into(), fold.into());
    let context = FitContext { observer: &observer, chosen: &chosen, ..*context };
    let (train, test) = fold_images(config, &context, variants, images, fold)?;
    for (done, run) in missing.iter().enumerate() {
        let variant = &variants[run.row];
        let seed = context.seed.wrapping_add(run.seed as u64);
        let probabilities = probabilities(&variant.at(run.point), &train, &test, &FitContext { seed, ..context })?;
        verdicts.keep(*run, probabilities, done + 1 == missing.len(), &context)?;
        let which = if config.seeds > 1 { format!(", seed {seed}") } else { String::new() };
        let f1 = f1(&images.predicted(*run, &context, verdicts));
        say(&format!("{}{which}: F1 {f1:.3}", variant.title(variant.points[run.point])));
    }
    Ok(())
}

/// The images to learn from and to test on in a fold, with their maps.
fn fold_images(
    config: &Config,
    context: &FitContext,
    variants: &[Variant],
    images: &Candidates,
    fold: usize,
) -> Result<(Labelled, Labelled)> {
    let [train, watched, bad] = images.learned(fold, context.seed);
    let all = [&train[..], &watched, &bad].concat();
    // The networks themselves are trained without a word.
    let mut batches: Vec<_> = variants.iter().map(|v| norms(&Networks::new(&v.config), &v.config)).collect();
    batches.dedup();
    batches.iter().try_for_each(|norms| norms.check(all.len(), context.observer))?;
    let (normal, holdout, paths) = (images.paths(&train), images.paths(&watched), images.paths(&all));
    let groups: Vec<usize> = all.iter().map(|i| images.groups[*i]).collect();
    let inner = FitContext { train: context.train.with(&normal), holdout: context.train.with(&holdout), ..*context };
    let material = Material { images: context.train.with(&paths), labels: images.labels(&all), groups: &groups };
    let (guide, train) = material.guided(config, &inner)?;
    let tested = images.tested(fold);
    let paths = images.paths(&tested);
    let mut test = Labelled::new(context.train.with(&paths), images.labels(&tested));
    let every: Vec<usize> = (0..tested.len()).collect();
    test.make_maps(&every, config, |images| guide.maps(images))?;
    Ok((train, test))
}

/// Probabilities of the images that are tested on, by a network that learns from the others.
fn probabilities(config: &Config, train: &Labelled, test: &Labelled, context: &FitContext) -> Result<Vec<f32>> {
    let observer = WithLines { observer: context.observer, say: &|_| {} };
    let inner = FitContext { observer: &observer, ..context.of_stage(Some(stage::NETWORK)) };
    let params = learn(&Networks::new(config), config, train, &inner)?;
    let ready = Ready::new(config, &params.values()?, context.device)?;
    let mut all = Vec::with_capacity(test.paths.len());
    for_all(&Images::new(test.files(), config.image()), config.batch, |batch| {
        interrupt::check()?;
        let maps = test.maps_of(&batch, config.image(), context.device)?;
        let images = batch.images.to(context.device)?;
        all.extend(pooled(|| ready.probabilities(&images, &maps))?.into_vec()?);
        Ok(())
    })?;
    Ok(all)
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
