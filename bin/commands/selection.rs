//! The images of a training: which are learned from, and which are held out.

use std::collections::HashSet;
use std::path::PathBuf;

use hotad_engine::data::groups::{Grouping, set_aside};
use hotad_engine::data::prepare::{Prepared, list_sha256};
use hotad_engine::data::{Dataset, Item};
use hotad_engine::error::shown;
use hotad_engine::model_file::ModelFile;
use hotad_engine::{Error, Result, random};

use crate::args::{Common, TrainArgs};
use crate::output;

/// The images of a run.
pub struct Selection {
    /// Normal images to learn from.
    pub train: Vec<PathBuf>,
    /// Normal images to watch and calibrate with.
    pub holdout: Vec<PathBuf>,
    /// The part that each of these is of.
    pub holdout_groups: Vec<usize>,
    /// Defective images to learn from.
    pub defective: Vec<PathBuf>,
    /// The part that each image of `train`, then of `defective`, is of.
    pub groups: Vec<usize>,
    /// Parts that all images are of.
    pub parts: usize,
    /// SHA-256 of all images that the model, and those it is built on, learn from.
    pub learned: Vec<String>,
    /// Whether the models it is built on tell all of theirs.
    pub lists_all_images: bool,
    pub gray: bool,
    /// SHA-256 of the list of all images.
    pub sha256: String,
    /// SHA-256 of the lists `train`, `holdout` and `defective`.
    pub sha256_of_lists: [String; 3],
}

/// Lists the images that a method learns from, each looked at once.
pub fn select(args: &TrainArgs, common: &Common, supervised: bool) -> Result<Selection> {
    let grouping = Grouping::of(&args.group)?;
    let data = output::data_set(&args.data)?;
    if data.train.is_empty() {
        let reason = "no normal images to train on; expected train/good, negative/ or a plain folder";
        return Err(Error::Data { path: data.root, reason: reason.into() });
    }
    let named: HashSet<PathBuf> = data.validation.iter().map(|i| i.path.clone()).collect();
    let prepared = output::prepare(&candidates(&data, args, supervised, common.seed), args.on_broken)?;
    let paths: Vec<&PathBuf> = prepared.items.iter().map(|i| &i.path).collect();
    let groups = grouping.groups(&paths, &prepared.thumbnails)?;
    let (members, lists_all_images) = learned_by_members(args)?;
    let holdout = match (args.cv.is_some(), named.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => held_out(&prepared, &groups, &members, args.holdout, common.seed),
        (false, false) => (0..paths.len()).filter(|i| named.contains(paths[*i])).collect(),
    };
    warn_of_divided(&groups, &holdout);
    check_twice(&prepared, &holdout, &members)?;
    let selection = Selection { lists_all_images, ..Selection::new(prepared, &groups, &holdout, members) };
    check(&selection, &data, args)?;
    let color = if selection.gray { "gray" } else { "colour" };
    common.detail(&format!("layout: {:?}; images: {color}; parts: {}", data.layout, selection.parts));
    Ok(selection)
}

/// The images that a method may learn from or calibrate with.
fn candidates(data: &Dataset, args: &TrainArgs, supervised: bool, seed: u64) -> Vec<Item> {
    let normal = data.train.iter().chain(&data.validation);
    let (good, bad): (Vec<&Item>, Vec<&Item>) = data.test.iter().partition(|i| !i.defective);
    match (supervised, args.cv) {
        (true, Some(_)) => normal.chain(good).chain(bad).cloned().collect(),
        (true, None) => normal.cloned().chain(data.defective_to_learn(args.defective_share, seed)).collect(),
        (false, _) => normal.cloned().collect(),
    }
}

/// SHA-256 of the images that the members have learned from, and whether all members tell all of theirs.
fn learned_by_members(args: &TrainArgs) -> Result<(HashSet<String>, bool)> {
    let (mut learned, mut all) = (HashSet::new(), true);
    for member in &args.member {
        let provenance = ModelFile::load(member)?.provenance;
        if !provenance.lists_all_images {
            let what =
                "does not say which images it learned from; train it again, or its images may be calibrated with";
            output::note(&format!("hotad: warning: --member {} {what}", shown(member)));
        }
        all &= provenance.lists_all_images;
        learned.extend(provenance.learned_images);
        learned.extend(provenance.added_images.into_keys());
    }
    Ok((learned, all))
}

/// Numbers of the normal images that are held out: a share of them, drawn by the seed, whole groups, none of a group with an
/// image that a member or a supervised method learns from.
fn held_out(prepared: &Prepared, groups: &[usize], members: &HashSet<String>, share: f64, seed: u64) -> Vec<usize> {
    let normal: Vec<usize> = (0..groups.len()).filter(|i| !prepared.items[*i].defective).collect();
    let learned = |i: usize| prepared.items[i].defective || members.contains(&prepared.hashes[i]);
    let taken: HashSet<usize> = (0..groups.len()).filter(|i| learned(*i)).map(|i| groups[i]).collect();
    let n = normal.len();
    let wanted = ((n as f64 * share).round() as usize).clamp(1.min(n.saturating_sub(1)), n.saturating_sub(1));
    let order: Vec<usize> =
        random::shuffled(n, seed, "holdout", 0).into_iter().filter(|i| !taken.contains(&groups[normal[*i]])).collect();
    let of_normal: Vec<usize> = normal.iter().map(|i| groups[*i]).collect();
    set_aside(&of_normal, wanted, &order).1.into_iter().map(|i| normal[i]).collect()
}

impl Selection {
    fn new(prepared: Prepared, groups: &[usize], holdout: &[usize], members: HashSet<String>) -> Self {
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
        Self {
            holdout_groups: holdout.iter().map(|i| groups[*i]).collect(),
            groups: own.iter().map(|i| groups[*i]).collect(),
            parts: groups.iter().collect::<HashSet<_>>().len(),
            sha256_of_lists: [&train[..], holdout, &defective].map(|some| list_sha256(&hashes(some))),
            train: paths(&train),
            holdout: paths(holdout),
            defective: paths(&defective),
            learned,
            lists_all_images: true,
            gray: prepared.gray,
            sha256: list_sha256(&prepared.hashes),
        }
    }
}

/// Says when a validation folder holds images of parts that are learned from.
fn warn_of_divided(groups: &[usize], holdout: &[usize]) {
    let held: HashSet<usize> = holdout.iter().copied().collect();
    let learned: HashSet<usize> = (0..groups.len()).filter(|i| !held.contains(i)).map(|i| groups[i]).collect();
    let count = holdout.iter().filter(|i| learned.contains(&groups[**i])).count();
    if count > 0 {
        output::note(&format!(
            "hotad: warning: {count} images in validation/ are of parts that are learned from too; thresholds will be too low"
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

/// Fails where nothing is left to learn from or to calibrate with.
fn check(selection: &Selection, data: &Dataset, args: &TrainArgs) -> Result<()> {
    if !selection.train.is_empty() && (!selection.holdout.is_empty() || args.cv.is_some()) {
        return Ok(());
    }
    let reason = match args.member.is_empty() {
        true => "two normal images of different parts at least are needed: one to learn from, one to calibrate with",
        false => {
            "every normal image, or one of the same part, was learned from by a member; nothing is left to calibrate with"
        }
    };
    Err(Error::Data { path: data.root.clone(), reason: reason.into() })
}
