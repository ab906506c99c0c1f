//! The images of a training: which are learned from, and which are held out.

use std::collections::HashSet;
use std::path::PathBuf;

use hotad_engine::data::groups::{Grouping, defective_to_learn, set_aside};
use hotad_engine::data::prepare::{Prepared, file_sha256, list_sha256};
use hotad_engine::data::roi::Roi;
use hotad_engine::data::{Dataset, Item};
use hotad_engine::error::shown;
use hotad_engine::model_file::{ModelFile, Provenance};
use hotad_engine::observer::Observer;
use hotad_engine::train::argument;
use hotad_engine::{Error, Result, random};
use serde_json::{Map, Value};

use super::train::TrainJob;
use super::{data_set, prepare};
use crate::fit::WarmStart;
use crate::method;

/// What messages call a model that an ensemble is built on; others that a training is built on go by their setting.
const MEMBER: &str = "member";

/// The images of a training.
pub struct Selection {
    /// Normal images to learn from.
    pub train: Vec<PathBuf>,
    /// Normal images to watch and calibrate with; none for cross-validation.
    pub holdout: Vec<PathBuf>,
    /// The part that each of these is of.
    pub holdout_groups: Vec<usize>,
    /// Defective images to learn from.
    pub defective: Vec<PathBuf>,
    /// The part that each image of `train`, then of `defective`, is of.
    pub groups: Vec<usize>,
    /// SHA-256 of each image of `train`.
    pub train_sha256: Vec<String>,
    /// SHA-256 of each image of `holdout`.
    pub holdout_sha256: Vec<String>,
    /// Parts that all images are of.
    pub parts: usize,
    /// SHA-256 of all images that the model, those it is built on and the one that it starts from learn from, in ascending
    /// order.
    pub learned: Vec<String>,
    /// Whether these models tell all of theirs.
    pub lists_all_images: bool,
    /// Whether all images are gray.
    pub gray: bool,
    /// SHA-256 of the list of all images.
    pub sha256: String,
    /// The model whose weights training starts from.
    pub init: Option<WarmStart>,
    /// The region of them that is looked at: the job's, or that of its members.
    pub roi: Option<Roi>,
    /// What decides what is learned from, by name, for checkpoints.
    pub chosen: Map<String, Value>,
}

impl Selection {
    /// Lists the images that a job learns from, each looked at once; for cross-validation all labelled ones, none held out.
    ///
    /// # Errors
    /// A data set, an image, a member or a grouping that cannot be used, or too few images.
    pub(super) fn new(job: &TrainJob, cross_validation: bool, observer: &dyn Observer) -> Result<Self> {
        let grouping = Grouping::of(&job.group)?;
        let data = data_set(&job.data, observer)?;
        if data.train.is_empty() {
            let reason = "no normal images to train on; expected train/good, negative/ or a plain folder";
            return Err(Error::Data { path: data.root, reason: reason.into() });
        }
        let named: HashSet<PathBuf> = data.validation.iter().map(|i| i.path.clone()).collect();
        let candidates = candidates(&data, job, cross_validation)?;
        if cross_validation && job.init.is_some() {
            let reason =
                "what it learned from may be among the images that folds are tested on; folds start afresh".into();
            return Err(Error::Argument { name: "init", reason });
        }
        let init = job.init.as_deref().map(WarmStart::read).transpose()?;
        let Earlier { learned: earlier, lists_all_images, roi, files } = Earlier::read(job, init.as_ref(), observer)?;
        let mut prepared = prepare(&candidates, roi.as_ref(), job.on_broken, observer)?;
        let paths = |prepared: &Prepared| prepared.items.iter().map(|i| i.path.clone()).collect::<Vec<_>>();
        let mut groups = grouping.groups(&paths(&prepared), &prepared.thumbnails)?;
        match cross_validation {
            true => (prepared, groups) = unlearned(prepared, groups, &earlier, observer),
            false => (prepared, groups) = with_learned_defects(prepared, groups, job),
        }
        if let Some(init) = &init {
            init.check(method(&job.method)?, &job.settings, if prepared.are_gray() { 1 } else { 3 })?;
        }
        let (paths, built) = (paths(&prepared), !earlier.is_empty());
        let holdout = match (cross_validation, named.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => held_out(&prepared, &groups, &earlier, job),
            (false, false) => (0..paths.len()).filter(|i| named.contains(&paths[*i])).collect(),
        };
        warn_of_divided(&groups, &holdout, observer);
        check_twice(&prepared, &holdout, &earlier)?;
        let mut selection = Self { lists_all_images, ..Self::of(job, prepared, &groups, &holdout, earlier) };
        if !files.is_empty() {
            selection.chosen.insert("SHA-256 of the models built on".into(), list_sha256(&files).into());
        }
        if let Some(roi) = &roi {
            let plain = serde_json::to_value(roi).expect("a region is plain data");
            selection.chosen.insert("region of interest".into(), plain);
        }
        if let Some(init) = &init {
            selection.chosen.insert(format!("SHA-256 of {}", argument("init")), init.origin().sha256.into());
        }
        (selection.roi, selection.init) = (roi, init);
        if selection.train.is_empty() || (selection.holdout.is_empty() && !cross_validation) {
            return Err(too_few(&data, built));
        }
        let colour = if selection.gray { "gray" } else { "colour" };
        observer.detail(&format!("layout: {:?}; images: {colour}; parts: {}", data.layout, selection.parts));
        Ok(selection)
    }

    /// Of looked-at images, of which some are held out.
    fn of(job: &TrainJob, prepared: Prepared, groups: &[usize], holdout: &[usize], earlier: HashSet<String>) -> Self {
        let held: HashSet<usize> = holdout.iter().copied().collect();
        let pick =
            |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> { (0..groups.len()).filter(|i| wanted(*i)).collect() };
        let train = pick(&|i| !prepared.items[i].defective && !held.contains(&i));
        let defective = pick(&|i| prepared.items[i].defective);
        let paths = |some: &[usize]| some.iter().map(|i| prepared.items[*i].path.clone()).collect::<Vec<_>>();
        let hashes = |some: &[usize]| some.iter().map(|i| prepared.hashes[*i].clone()).collect::<Vec<_>>();
        let own: Vec<usize> = train.iter().chain(&defective).copied().collect();
        let mut learned: Vec<String> = earlier.into_iter().chain(hashes(&own)).collect();
        learned.sort_unstable();
        learned.dedup();
        let lists = [&train[..], holdout, &defective].map(|some| list_sha256(&hashes(some)));
        Self {
            holdout_groups: holdout.iter().map(|i| groups[*i]).collect(),
            groups: own.iter().map(|i| groups[*i]).collect(),
            parts: groups.iter().collect::<HashSet<_>>().len(),
            chosen: chosen_by(job, lists, !defective.is_empty(), own.iter().map(|i| groups[*i])),
            train_sha256: hashes(&train),
            holdout_sha256: hashes(holdout),
            train: paths(&train),
            holdout: paths(holdout),
            defective: paths(&defective),
            learned,
            lists_all_images: true,
            gray: prepared.are_gray(),
            roi: None,
            init: None,
            sha256: list_sha256(&prepared.hashes),
        }
    }
}

/// Images without the groups that a model which is built on has learned from, tested on which it would be judged too kindly;
/// and their groups.
fn unlearned(
    prepared: Prepared,
    groups: Vec<usize>,
    members: &HashSet<String>,
    observer: &dyn Observer,
) -> (Prepared, Vec<usize>) {
    let learned: HashSet<usize> =
        (0..groups.len()).filter(|i| members.contains(&prepared.hashes[*i])).map(|i| groups[i]).collect();
    let wanted: Vec<bool> = groups.iter().map(|group| !learned.contains(group)).collect();
    let left_out = wanted.iter().filter(|wanted| !**wanted).count();
    if left_out > 0 {
        let why = "the model that is built on has learned from them, or from images of the same part";
        observer.say(&format!("{left_out} images are left out: {why}"));
    }
    let kept = groups.into_iter().filter(|group| !learned.contains(group)).collect();
    (prepared.only(&wanted), kept)
}

/// Images with those defective ones alone that are learned from; and their groups.
fn with_learned_defects(prepared: Prepared, groups: Vec<usize>, job: &TrainJob) -> (Prepared, Vec<usize>) {
    let learned = defective_to_learn(&prepared.items, &groups, job.share_of_defective(), job.seed);
    let mut wanted: Vec<bool> = prepared.items.iter().map(|item| !item.defective).collect();
    learned.into_iter().for_each(|i| wanted[i] = true);
    let kept = groups.into_iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(group, _)| group).collect();
    (prepared.only(&wanted), kept)
}

/// What decides which images are learned from: the SHA-256 of the lists and of the number of the part that each image is of, and
/// the shares that they were drawn by.
fn chosen_by(
    job: &TrainJob,
    sha256_of_lists: [String; 3],
    defective: bool,
    parts: impl Iterator<Item = usize>,
) -> Map<String, Value> {
    let mut chosen = Map::new();
    for (part, sha256) in ["images to learn from", "held-out images", "defective images"].iter().zip(sha256_of_lists) {
        chosen.insert(format!("SHA-256 of the {part}"), sha256.into());
    }
    let parts: Vec<String> = parts.map(|part| format!("{part} ")).collect();
    chosen.insert("SHA-256 of the parts that images are of".into(), list_sha256(&parts).into());
    chosen.insert(argument("holdout"), job.holdout.into());
    if defective {
        chosen.insert(argument("defective_share"), job.share_of_defective().into());
    }
    chosen
}

/// The images that a method may learn from or calibrate with; of defective ones those too that are left for the evaluation.
fn candidates(data: &Dataset, job: &TrainJob, cross_validation: bool) -> Result<Vec<Item>> {
    let normal = data.train.iter().chain(&data.validation);
    let (good, bad): (Vec<&Item>, Vec<&Item>) = data.test.iter().partition(|i| !i.defective);
    Ok(match (method(&job.method)?.supervised, cross_validation) {
        (true, true) => normal.chain(good).chain(bad).cloned().collect(),
        (true, false) => normal.chain(bad).cloned().collect(),
        (false, _) => normal.cloned().collect(),
    })
}

/// What trained models that a job builds on or starts from say of the images that they have learned from.
struct Earlier {
    /// SHA-256 of these images.
    learned: HashSet<String>,
    /// Whether all models tell all of theirs.
    lists_all_images: bool,
    /// The region that members and the job look at.
    roi: Option<Roi>,
    /// SHA-256 of each file that is built on.
    files: Vec<String>,
}

impl Earlier {
    /// Of the members of a job, what its settings build on, and the model that it starts from.
    fn read(job: &TrainJob, init: Option<&WarmStart>, observer: &dyn Observer) -> Result<Self> {
        let mut all = Self { learned: HashSet::new(), lists_all_images: true, roi: job.roi.clone(), files: Vec::new() };
        let built_on = (method(&job.method)?.built_on)(&job.settings)?;
        let members = job.members.iter().map(|member| (MEMBER, member));
        for (i, (role, path)) in members.chain(built_on.iter().map(|(role, path)| (*role, path))).enumerate() {
            let ModelFile { provenance, roi, .. } = ModelFile::load(path)?;
            all.files.push(file_sha256(path)?);
            if i == 0 && job.roi.is_none() {
                all.roi = roi.clone();
            }
            if roi != all.roi {
                let others = if role == MEMBER { "the other members or this training" } else { "this training" };
                let reason = format!("this {role} looks at another region of interest than {others}; all share one");
                return Err(Error::Model { path: path.clone(), reason });
            }
            all.add(&format!("{role} {}", shown(path)), &provenance, observer);
        }
        if let Some(init) = init {
            all.add(&init.origin().file, init.provenance(), observer);
        }
        Ok(all)
    }

    /// Adds the images of one model.
    fn add(&mut self, model: &str, provenance: &Provenance, observer: &dyn Observer) {
        if !provenance.lists_all_images {
            observer.warn(&format!(
                "{model} does not say which images it learned from; train it again, or its images may be calibrated with"
            ));
        }
        self.lists_all_images &= provenance.lists_all_images;
        self.learned.extend(provenance.known().into_iter().map(String::from));
    }
}

/// Numbers of the normal images that are held out: a share of them, drawn by the seed, whole groups, none of a group with an
/// image that an earlier model or a supervised method learns from.
fn held_out(prepared: &Prepared, groups: &[usize], earlier: &HashSet<String>, job: &TrainJob) -> Vec<usize> {
    let normal: Vec<usize> = (0..groups.len()).filter(|i| !prepared.items[*i].defective).collect();
    let learned = |i: usize| prepared.items[i].defective || earlier.contains(&prepared.hashes[i]);
    let taken: HashSet<usize> = (0..groups.len()).filter(|i| learned(*i)).map(|i| groups[i]).collect();
    let n = normal.len();
    let wanted = ((n as f64 * job.holdout).round() as usize).clamp(1.min(n.saturating_sub(1)), n.saturating_sub(1));
    let order: Vec<usize> = random::shuffled(n, job.seed, "holdout", 0)
        .into_iter()
        .filter(|i| !taken.contains(&groups[normal[*i]]))
        .collect();
    let of_normal: Vec<usize> = normal.iter().map(|i| groups[*i]).collect();
    set_aside(&of_normal, wanted, &order).1.into_iter().map(|i| normal[i]).collect()
}

/// Warns when a validation folder holds images of parts that are learned from.
fn warn_of_divided(groups: &[usize], holdout: &[usize], observer: &dyn Observer) {
    let held: HashSet<usize> = holdout.iter().copied().collect();
    let learned: HashSet<usize> = (0..groups.len()).filter(|i| !held.contains(i)).map(|i| groups[i]).collect();
    let count = holdout.iter().filter(|i| learned.contains(&groups[**i])).count();
    if count > 0 {
        observer.warn(&format!(
            "{count} images in validation/ are of parts that are learned from too; thresholds will be too low"
        ));
    }
}

/// Fails for an image that is held out and learned from too.
fn check_twice(prepared: &Prepared, holdout: &[usize], earlier: &HashSet<String>) -> Result<()> {
    let held: HashSet<usize> = holdout.iter().copied().collect();
    let own: HashSet<&String> =
        (0..prepared.hashes.len()).filter(|i| !held.contains(i)).map(|i| &prepared.hashes[i]).collect();
    let twice = |i: &&usize| own.contains(&prepared.hashes[**i]) || earlier.contains(&prepared.hashes[**i]);
    match holdout.iter().find(twice) {
        None => Ok(()),
        Some(i) => Err(Error::Image {
            path: prepared.items[*i].path.clone(),
            reason: "is held out, but its content is learned from too, here or by an earlier model; remove the copy"
                .into(),
        }),
    }
}

/// Nothing is left to learn from or to calibrate with.
fn too_few(data: &Dataset, built_on_others: bool) -> Error {
    let reason = match built_on_others {
        false => "two normal images of different parts at least are needed: one to learn from, one to calibrate with",
        true => {
            "every normal image, or one of the same part, was learned from by an earlier model; nothing is left to calibrate with"
        }
    };
    Error::Data { path: data.root.clone(), reason: reason.into() }
}
