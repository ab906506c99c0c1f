//! The images of a training: which are learned from, and which are held out.

use std::collections::HashSet;
use std::path::PathBuf;

use hotad_engine::container;
use hotad_engine::data::groups::{Grouping, set_aside};
use hotad_engine::data::prepare::{Prepared, list_sha256};
use hotad_engine::data::roi::Roi;
use hotad_engine::data::{Dataset, Item};
use hotad_engine::error::shown;
use hotad_engine::model_file::ModelFile;
use hotad_engine::observer::Observer;
use hotad_engine::{Error, Result, random};
use serde_json::{Map, Value};

use super::train::TrainJob;
use super::{data_set, prepare};
use crate::method;

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
    /// Parts that all images are of.
    pub parts: usize,
    /// SHA-256 of all images that the model, and those it is built on, learn from, in ascending order.
    pub learned: Vec<String>,
    /// Whether the models it is built on tell all of theirs.
    pub lists_all_images: bool,
    /// Whether all images are gray.
    pub gray: bool,
    /// SHA-256 of the list of all images.
    pub sha256: String,
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
        let Members { learned: members, lists_all_images, roi, weights } = Members::read(job, observer)?;
        let mut prepared = prepare(&candidates, roi.as_ref(), job.on_broken, observer)?;
        let paths = |prepared: &Prepared| prepared.items.iter().map(|i| i.path.clone()).collect::<Vec<_>>();
        let mut groups = grouping.groups(&paths(&prepared), &prepared.thumbnails)?;
        if cross_validation {
            (prepared, groups) = unlearned(prepared, groups, &members, observer);
        }
        let (paths, built) = (paths(&prepared), !members.is_empty());
        let holdout = match (cross_validation, named.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => held_out(&prepared, &groups, &members, job),
            (false, false) => (0..paths.len()).filter(|i| named.contains(&paths[*i])).collect(),
        };
        warn_of_divided(&groups, &holdout, observer);
        check_twice(&prepared, &holdout, &members)?;
        let mut selection = Self { lists_all_images, ..Self::of(job, prepared, &groups, &holdout, members) };
        if !weights.is_empty() {
            selection.chosen.insert("SHA-256 of the models built on".into(), list_sha256(&weights).into());
        }
        if let Some(roi) = &roi {
            let plain = serde_json::to_value(roi).expect("a region is plain data");
            selection.chosen.insert("region of interest".into(), plain);
        }
        selection.roi = roi;
        if selection.train.is_empty() || (selection.holdout.is_empty() && !cross_validation) {
            return Err(too_few(&data, built));
        }
        let colour = if selection.gray { "gray" } else { "colour" };
        observer.detail(&format!("layout: {:?}; images: {colour}; parts: {}", data.layout, selection.parts));
        Ok(selection)
    }

    /// Of looked-at images, of which some are held out.
    fn of(job: &TrainJob, prepared: Prepared, groups: &[usize], holdout: &[usize], members: HashSet<String>) -> Self {
        let held: HashSet<usize> = holdout.iter().copied().collect();
        let pick =
            |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> { (0..groups.len()).filter(|i| wanted(*i)).collect() };
        let train = pick(&|i| !prepared.items[i].defective && !held.contains(&i));
        let defective = pick(&|i| prepared.items[i].defective);
        let paths = |some: &[usize]| some.iter().map(|i| prepared.items[*i].path.clone()).collect::<Vec<_>>();
        let hashes = |some: &[usize]| some.iter().map(|i| prepared.hashes[*i].clone()).collect::<Vec<_>>();
        let own: Vec<usize> = train.iter().chain(&defective).copied().collect();
        let mut learned: Vec<String> = members.into_iter().chain(hashes(&own)).collect();
        learned.sort_unstable();
        learned.dedup();
        let lists = [&train[..], holdout, &defective].map(|some| list_sha256(&hashes(some)));
        Self {
            holdout_groups: holdout.iter().map(|i| groups[*i]).collect(),
            groups: own.iter().map(|i| groups[*i]).collect(),
            parts: groups.iter().collect::<HashSet<_>>().len(),
            chosen: chosen_by(job, lists, !defective.is_empty()),
            train: paths(&train),
            holdout: paths(holdout),
            defective: paths(&defective),
            learned,
            lists_all_images: true,
            gray: prepared.gray,
            roi: None,
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

/// What decides which images are learned from: the SHA-256 of the lists, and the shares that they were drawn by.
fn chosen_by(job: &TrainJob, sha256_of_lists: [String; 3], defective: bool) -> Map<String, Value> {
    let mut chosen = Map::new();
    for (part, sha256) in ["images to learn from", "held-out images", "defective images"].iter().zip(sha256_of_lists) {
        chosen.insert(format!("SHA-256 of the {part}"), sha256.into());
    }
    chosen.insert("--holdout".into(), job.holdout.into());
    if defective {
        chosen.insert("--defective-share".into(), job.defective_share.into());
    }
    chosen
}

/// The images that a method may learn from or calibrate with.
fn candidates(data: &Dataset, job: &TrainJob, cross_validation: bool) -> Result<Vec<Item>> {
    let normal = data.train.iter().chain(&data.validation);
    let (good, bad): (Vec<&Item>, Vec<&Item>) = data.test.iter().partition(|i| !i.defective);
    Ok(match (method(&job.method)?.supervised, cross_validation) {
        (true, true) => normal.chain(good).chain(bad).cloned().collect(),
        (true, false) => normal.cloned().chain(data.defective_to_learn(job.defective_share, job.seed)).collect(),
        (false, _) => normal.cloned().collect(),
    })
}

/// What members say of the images that they have learned from.
struct Members {
    /// SHA-256 of these images.
    learned: HashSet<String>,
    /// Whether all members tell all of theirs.
    lists_all_images: bool,
    /// The region that they and the job look at.
    roi: Option<Roi>,
    /// SHA-256 of the tensors of each.
    weights: Vec<String>,
}

impl Members {
    /// Of the members of a job.
    fn read(job: &TrainJob, observer: &dyn Observer) -> Result<Self> {
        let mut all =
            Self { learned: HashSet::new(), lists_all_images: true, roi: job.roi.clone(), weights: Vec::new() };
        let built_on = (method(&job.method)?.built_on)(&job.settings)?;
        for (i, member) in job.members.iter().chain(&built_on).enumerate() {
            let ModelFile { provenance, roi, tensors, .. } = ModelFile::load(member)?;
            all.weights.push(container::sha256_of(&tensors));
            if i == 0 && job.roi.is_none() {
                all.roi = roi.clone();
            }
            if roi != all.roi {
                let reason = "looks at another region of interest than the others or this training; members share one";
                return Err(Error::Model { path: member.clone(), reason: reason.into() });
            }
            if !provenance.lists_all_images {
                let what =
                    "does not say which images it learned from; train it again, or its images may be calibrated with";
                observer.warn(&format!("member {} {what}", shown(member)));
            }
            all.lists_all_images &= provenance.lists_all_images;
            all.learned.extend(provenance.learned_images);
            all.learned.extend(provenance.added_images.into_keys());
        }
        Ok(all)
    }
}

/// Numbers of the normal images that are held out: a share of them, drawn by the seed, whole groups, none of a group with an
/// image that a member or a supervised method learns from.
fn held_out(prepared: &Prepared, groups: &[usize], members: &HashSet<String>, job: &TrainJob) -> Vec<usize> {
    let normal: Vec<usize> = (0..groups.len()).filter(|i| !prepared.items[*i].defective).collect();
    let learned = |i: usize| prepared.items[i].defective || members.contains(&prepared.hashes[i]);
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
fn check_twice(prepared: &Prepared, holdout: &[usize], members: &HashSet<String>) -> Result<()> {
    let held: HashSet<usize> = holdout.iter().copied().collect();
    let own: HashSet<&String> =
        (0..prepared.hashes.len()).filter(|i| !held.contains(i)).map(|i| &prepared.hashes[i]).collect();
    let twice = |i: &&usize| own.contains(&prepared.hashes[**i]) || members.contains(&prepared.hashes[**i]);
    match holdout.iter().find(twice) {
        None => Ok(()),
        Some(i) => Err(Error::Image {
            path: prepared.items[*i].path.clone(),
            reason: "is held out, but its content is learned from too, here or by a member; remove the copy".into(),
        }),
    }
}

/// Nothing is left to learn from or to calibrate with.
fn too_few(data: &Dataset, built_on_others: bool) -> Error {
    let reason = match built_on_others {
        false => "two normal images of different parts at least are needed: one to learn from, one to calibrate with",
        true => {
            "every normal image, or one of the same part, was learned from by a member; nothing is left to calibrate with"
        }
    };
    Error::Data { path: data.root.clone(), reason: reason.into() }
}
