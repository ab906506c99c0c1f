//! Evaluations in shards: each scores its own test images and keeps what metrics are made from; merged, these give the metrics
//! of one run, to the last bit but for times.
//!
//! What is kept of an image are score, thumbnail, the anomaly map at the size of the model, and its masks: their files, and as run lengths.
//! Merging takes them in the order of the data set and does what [`super::evaluate`] does after scoring.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hotad_engine::data::groups::{Grouping, Thumbnail, numbered};
use hotad_engine::data::limits::Limits;
use hotad_engine::data::{Dataset, Item};
use hotad_engine::metrics::region::DefectRegion;
use hotad_engine::shard::file::{At, Header, Lines, ShardFile, merged};
use hotad_engine::shard::{Shard, listing_sha256};
use hotad_engine::{Error, Result};
use hotad_kernels::device::HostBuffer;
use serde::{Deserialize, Serialize};

use super::observe::{Observed, observe, unseen};
use super::totals::{Drawn, Subject, Totals};
use super::truth::Truth;
use super::{EvaluateOptions, Evaluation, ScoredImage, check_tests};
use crate::anomaly_map::AnomalyMap;
use crate::model::Model;

/// A scored test image in a file.
#[derive(Serialize, Deserialize)]
struct Record {
    path: PathText,
    /// Files of its masks.
    masks: Vec<PathText>,
    kind: String,
    defective: bool,
    score: f32,
    size: (usize, usize),
    ms: f64,
    /// Name of its group, where that does not depend on what is to be seen.
    group: Option<String>,
    thumbnail: Thumbnail,
    /// The anomaly map: little-endian floats in Base64.
    map: String,
    /// Where masks are compared.
    truth: Option<TruthRecord>,
}

/// A path as it is shown: what is not UTF-8 in it is replaced.
type PathText = String;

/// What masks say of an image.
#[derive(Serialize, Deserialize)]
struct TruthRecord {
    /// Pixels that are normal, then defective, and so on in turn.
    mask: Vec<u32>,
    /// For LOCO: saturation and pixels of each region, in the same way.
    saturating: Option<Vec<(f64, Vec<u32>)>>,
}

/// What a shard keeps beside its images.
#[derive(Clone, Serialize, Deserialize)]
struct About {
    subject: Subject,
    /// Seed of the resamples.
    seed: u64,
    /// Images that cannot be decoded and are left out.
    broken: usize,
    /// Images that are left out: learned from, or of the part of one that was.
    learned: usize,
}

/// Lengths of runs of equal values, the first of `false`.
fn runs(values: impl Iterator<Item = bool>) -> Vec<u32> {
    let (mut runs, mut value) = (vec![0], false);
    for next in values {
        if next != value {
            runs.push(0);
            value = next;
        }
        *runs.last_mut().expect("never empty") += 1;
    }
    runs
}

/// The reverse of [`runs`].
fn values(runs: &[u32]) -> Vec<bool> {
    let run = |(i, length): (usize, &u32)| std::iter::repeat_n(i % 2 == 1, *length as usize);
    runs.iter().enumerate().flat_map(run).collect()
}

fn damaged() -> Error {
    Error::Config("a shard holds a map or mask that is damaged; run the shard again".into())
}

/// A map as text.
fn encoded(map: &AnomalyMap) -> String {
    STANDARD.encode(map.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
}

/// The reverse of [`encoded`], for a map of a size.
fn decoded(map: &str, (height, width): (usize, usize)) -> Result<AnomalyMap> {
    let bytes = STANDARD.decode(map).map_err(|_| damaged())?;
    if bytes.len() != height.saturating_mul(width).saturating_mul(4) {
        return Err(damaged());
    }
    let values = HostBuffer::collect(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
    Ok(AnomalyMap { height, width, values })
}

impl TruthRecord {
    fn new(truth: &Truth) -> Self {
        let region = |r: &DefectRegion| {
            let mut inside = vec![false; truth.defect.len()];
            r.pixels.iter().for_each(|at| inside[*at as usize] = true);
            (r.saturation, runs(inside.into_iter()))
        };
        Self {
            mask: runs(truth.defect.iter().copied()),
            saturating: truth.saturating.as_ref().map(|regions| regions.iter().map(region).collect()),
        }
    }

    /// For an image of a number of pixels.
    fn read(self, pixels: usize) -> Result<Truth> {
        let whole = |runs: &[u32]| runs.iter().map(|r| u64::from(*r)).sum::<u64>() == pixels as u64;
        let regions = self.saturating.iter().flatten().map(|(_, runs)| runs);
        if !regions.chain([&self.mask]).all(|runs| whole(runs)) {
            return Err(damaged());
        }
        let region = |(saturation, runs): (f64, Vec<u32>)| {
            let inside = values(&runs);
            DefectRegion { pixels: (0..inside.len() as u32).filter(|i| inside[*i as usize]).collect(), saturation }
        };
        let saturating = self.saturating.map(|regions| regions.into_iter().map(region).collect());
        Ok(Truth { defect: values(&self.mask), saturating })
    }
}

impl Record {
    fn new(observed: Observed, group: Option<String>) -> Self {
        let Observed { image, thumbnail, map, truth } = observed;
        Self {
            path: image.item.path.to_string_lossy().into(),
            masks: image.item.masks.iter().map(|mask| mask.to_string_lossy().into()).collect(),
            kind: image.item.kind,
            defective: image.item.defective,
            score: image.score,
            size: image.size,
            ms: image.ms,
            group,
            thumbnail,
            map: encoded(&map),
            truth: truth.as_ref().map(TruthRecord::new),
        }
    }

    /// For a model whose maps have this size.
    fn read(self, of_map: (usize, usize)) -> Result<Observed> {
        let masks = self.masks.into_iter().map(PathBuf::from).collect();
        let item = Item { path: self.path.into(), kind: self.kind, defective: self.defective, masks };
        let (height, width) = self.size;
        Limits::chosen().check_pixels(width as u64, height as u64).map_err(|e| e.of_file(&item.path))?;
        let image = ScoredImage { item, score: self.score, size: self.size, ms: self.ms, overlap: None };
        let map = decoded(&self.map, of_map)?;
        let truth = self.truth.map(|truth| truth.read(height * width)).transpose()?;
        Ok(Observed { image, thumbnail: self.thumbnail, map, truth })
    }
}

/// The test images of a data set, all of them and those of a shard.
pub struct Listing {
    /// SHA-256 of all.
    sha256: String,
    /// Number of all.
    files: usize,
    /// Numbers of the shard's own.
    numbers: HashMap<PathBuf, usize>,
}

impl Listing {
    /// Leaves a data set with the test images that fall to a shard.
    ///
    /// # Errors
    /// When there are no test images at all, or one is gone.
    pub fn narrow(data: &mut Dataset, shard: Shard) -> Result<Self> {
        check_tests(data)?;
        let relative = |path: &Path| path.strip_prefix(&data.root).unwrap_or(path).to_path_buf();
        let masks = |item: &Item| item.masks.clone().into_iter().map(|mask| (mask, "mask".to_string()));
        let all = data
            .test
            .iter()
            .flat_map(|item| std::iter::once((item.path.clone(), item.kind.clone())).chain(masks(item)));
        let all: Vec<_> = all.map(|(path, about)| (relative(&path), path, about)).collect();
        let sha256 = listing_sha256(all.iter().map(|(r, path, about)| (r.as_path(), path.as_path(), about.as_str())))?;
        let own = |item: &Item| shard.takes(&relative(&item.path));
        let numbers = data.test.iter().enumerate().filter(|(_, item)| own(item));
        let numbers = numbers.map(|(i, item)| (item.path.clone(), i)).collect();
        let listing = Self { sha256, files: data.test.len(), numbers };
        data.test.retain(|item| listing.numbers.contains_key(&item.path));
        Ok(listing)
    }
}

/// An evaluation of a shard that is ready to be scored.
pub struct Sharded<'a> {
    model: &'a Model,
    data: &'a Dataset,
    options: &'a EvaluateOptions<'a>,
    listing: &'a Listing,
    subject: Subject,
    test: Vec<Item>,
    groups: Option<Vec<String>>,
}

impl<'a> Sharded<'a> {
    /// Of the images that are left of a shard, `whole` the data set that they are of.
    ///
    /// # Errors
    /// When an image cannot be read, or has no group.
    pub fn new(
        model: &'a Model,
        data: &'a Dataset,
        whole: &Dataset,
        listing: &'a Listing,
        options: &'a EvaluateOptions<'a>,
    ) -> Result<Self> {
        // Of the part of an image that was learned from there may be images in other shards, unless each is a part of its own.
        let items = if matches!(options.grouping, Grouping::None) { &data.test } else { &whole.test };
        let is_unseen = unseen(model, items, options.grouping)?;
        let kept = items.iter().zip(&is_unseen).filter(|(_, unseen)| **unseen);
        let kept: HashSet<&PathBuf> = kept.map(|(item, _)| &item.path).collect();
        let test: Vec<Item> = data.test.iter().filter(|item| kept.contains(&item.path)).cloned().collect();
        let paths: Vec<&PathBuf> = test.iter().map(|i| &i.path).collect();
        let groups = options.grouping.labels(&paths)?;
        Ok(Self { model, data, options, listing, subject: Subject::new(model, whole), test, groups })
    }

    /// Completes the header of its file; `broken` images were left out before.
    pub fn describe(&self, header: &mut Header, broken: usize) {
        let learned = self.data.test.len() - self.test.len();
        let about = About { subject: self.subject.clone(), seed: self.options.seed, broken, learned };
        header.listing.clone_from(&self.listing.sha256);
        header.files = self.listing.files;
        header.lines = self.test.len();
        header.about = serde_json::to_value(about).expect("the subject is plain data");
    }

    /// Scores the images and writes a line for each.
    ///
    /// # Errors
    /// As [`super::evaluate`]; I/O errors.
    pub fn run(&self, lines: &mut Lines) -> Result<()> {
        let truths = self.subject.truths(self.data, None)?;
        let mut groups = self.groups.iter().flatten().cloned();
        observe(self.model, &self.test, self.options, truths.as_ref(), |observed| {
            let at = self.listing.numbers[&observed.image.item.path];
            lines.add(&At { at, result: Record::new(observed, groups.next()) })
        })
    }
}

/// An evaluation made of shards.
pub struct Merged {
    /// As of one run.
    pub evaluation: Evaluation,
    /// Images that could not be decoded and were left out.
    pub broken: usize,
}

/// Merges the shards of an evaluation; keeps maps as [`EvaluateOptions::keep_maps`] says.
///
/// # Errors
/// When a file is damaged, or nothing is left to evaluate on.
pub fn merge(files: &[ShardFile], keep_maps: usize) -> Result<Merged> {
    let abouts: Vec<About> = files.iter().map(about).collect::<Result<_>>()?;
    let Some(first) = abouts.first() else { return Err(Error::Config("there are no shards to merge".into())) };
    let mut totals = Totals::new(&first.subject, keep_maps);
    let mut labels = Vec::new();
    merged(files, |record: Record| {
        labels.extend(record.group.clone());
        totals.take(record.read(first.subject.size)?)
    })?;
    let groups = (!labels.is_empty()).then(|| numbered(&labels));
    let sum = |of: fn(&About) -> usize| abouts.iter().map(of).sum();
    let evaluation = totals.finish(None, sum(|a| a.learned), Drawn { groups, seed: first.seed })?;
    Ok(Merged { evaluation, broken: sum(|a| a.broken) })
}

fn about(file: &ShardFile) -> Result<About> {
    serde_json::from_value(file.header.about.clone()).map_err(|e| Error::Data {
        path: file.path.clone(),
        reason: format!("damaged header ({e}); run the shard again"),
    })
}
