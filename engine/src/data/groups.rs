//! Groups of images of one part: a burst, an exposure series, crops of one photo. No split divides a group, as a held-out photo
//! whose twin was learned from says nothing about new parts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Item;
use super::picture::{ImageSpec, Picture};
use crate::error::{Error, Result, shown};
use crate::input_file;
use crate::random;

/// Rows and columns of a thumbnail.
const SIDE: usize = 16;

/// Squared distance of two thumbnails, as a share of what two unrelated ones have, up to which they are of one part. Found on the
/// exposure series of magnetic tiles: larger shares join tiles, smaller ones part the exposures of one.
const ALIKE: f32 = 0.1;

/// Share of all images that one group may hold; beyond it images differ by degrees, and no near-duplicates stand out.
const LARGEST: f64 = 0.25;

/// An image's gray values at 16 x 16 pixels, of mean 0 and deviation 1: whatever the exposure, nearly the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thumbnail(Vec<f32>);

impl Thumbnail {
    /// What an image is brought to first.
    pub const SPEC: ImageSpec = ImageSpec { height: SIDE, width: SIDE, channels: 1 };

    /// Of an image of that size.
    pub fn new(small: &Picture) -> Self {
        let count = small.values.len() as f32;
        let mean = small.values.iter().sum::<f32>() / count;
        let variance = small.values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
        Self(small.values.iter().map(|v| (v - mean) / variance.sqrt().max(1e-6)).collect())
    }
}

/// Squared Euclidean distance, in eight partial sums for vector registers.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        (0..8).for_each(|lane| sums[lane] += (a[lane] - b[lane]).powi(2));
    }
    sums.iter().sum()
}

/// Sets that are joined pair by pair.
struct Sets(Vec<usize>);

impl Sets {
    fn of(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    /// Numbers from 0 on, in the order in which sets first come.
    fn numbered(mut self) -> Vec<usize> {
        let roots: Vec<usize> = (0..self.0.len()).map(|i| self.of(i)).collect();
        numbered(&roots)
    }
}

/// The number of each label, from 0 on in the order in which labels first come.
pub fn numbered<T: std::hash::Hash + Eq>(labels: &[T]) -> Vec<usize> {
    let mut numbers = HashMap::new();
    labels
        .iter()
        .map(|label| {
            let next = numbers.len();
            *numbers.entry(label).or_insert(next)
        })
        .collect()
}

/// The group of each image, by similarity: images are of one group when their thumbnails, less the mean of all, are nearly equal,
/// or when a chain of such images joins them. Where one group would hold more than a quarter, equal images alone are joined.
pub fn alike(thumbnails: &[Thumbnail]) -> Vec<usize> {
    let n = thumbnails.len();
    let mut mean = vec![0.0; SIDE * SIDE];
    thumbnails.iter().for_each(|t| mean.iter_mut().zip(&t.0).for_each(|(m, v)| *m += v / n as f32));
    let rest: Vec<Vec<f32>> = thumbnails.iter().map(|t| t.0.iter().zip(&mean).map(|(v, m)| v - m).collect()).collect();
    let groups = joined(&rest, ALIKE);
    let mut sizes = vec![0; n];
    groups.iter().for_each(|g| sizes[*g] += 1);
    let most = sizes.iter().max().copied().unwrap_or(0);
    // A pair is no large group, however small the set.
    if most > 2 && most as f64 > LARGEST * n as f64 { joined(&rest, 0.0) } else { groups }
}

/// Chains of vectors whose squared distances are at most a share of the sum of their squares.
fn joined(vectors: &[Vec<f32>], share: f32) -> Vec<usize> {
    let squares: Vec<f32> = vectors.iter().map(|v| squared_distance(v, &[0.0; SIDE * SIDE])).collect();
    let near = |i: usize| -> Vec<usize> {
        (0..i).filter(|j| squared_distance(&vectors[i], &vectors[*j]) <= share * (squares[i] + squares[*j])).collect()
    };
    let pairs: Vec<Vec<usize>> = (0..vectors.len()).into_par_iter().map(near).collect();
    let mut sets = Sets((0..vectors.len()).collect());
    for (i, all) in pairs.into_iter().enumerate() {
        for j in all {
            let (a, b) = (sets.of(i), sets.of(j));
            sets.0[a.max(b)] = a.min(b);
        }
    }
    sets.numbered()
}

fn argument(reason: String) -> Error {
    Error::Argument { name: "group", reason }
}

/// How images are grouped.
#[derive(Clone, Debug)]
pub enum Grouping {
    /// By [`alike`].
    Alike,
    /// Each image is a group of its own.
    None,
    /// By what an expression's first group, or the whole of it, matches in the file's name.
    Pattern(regex::Regex),
    /// By a table: the end of an image's path, and the name of its group.
    Table(Table),
}

impl Grouping {
    /// Of `auto`, `none`, the path of a table (lines `FILE,GROUP`), or a regular expression.
    ///
    /// # Errors
    /// A table that cannot be read, or an expression that is none.
    pub fn of(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Alike),
            "none" => Ok(Self::None),
            path if Path::new(path).is_file() => table(Path::new(path)).map(Self::Table),
            pattern => regex::Regex::new(pattern).map(Self::Pattern).map_err(|e| {
                let why = e.to_string().lines().last().unwrap_or_default().replace("error: ", "");
                argument(format!("{pattern:?} is neither a file nor a regular expression: {why}"))
            }),
        }
    }

    /// The group of each image.
    ///
    /// # Errors
    /// An image that the expression or the table says nothing about.
    pub fn groups(&self, paths: &[impl AsRef<Path>], thumbnails: &[Thumbnail]) -> Result<Vec<usize>> {
        Ok(self.by_names(paths)?.unwrap_or_else(|| alike(thumbnails)))
    }

    /// The group of each image, where it does not depend on what is to be seen.
    ///
    /// # Errors
    /// An image that the expression or the table says nothing about.
    pub fn by_names(&self, paths: &[impl AsRef<Path>]) -> Result<Option<Vec<usize>>> {
        Ok(self.labels(paths)?.map(|labels| numbered(&labels)))
    }

    /// The name of each image's group, where it does not depend on what is to be seen.
    ///
    /// # Errors
    /// An image that the expression or the table says nothing about.
    pub fn labels(&self, paths: &[impl AsRef<Path>]) -> Result<Option<Vec<String>>> {
        let unknown = |path: &Path, what: &str| argument(format!("{what} says nothing about {}", shown(path)));
        let label = |path: &Path| match self {
            Self::Pattern(pattern) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let found = pattern.captures(&name).and_then(|c| c.get(1).or(c.get(0))).map(|m| m.as_str().to_string());
                found.ok_or_else(|| unknown(path, "the expression"))
            }
            Self::Table(table) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let lines = table.get(name.as_ref()).map_or(&[][..], Vec::as_slice);
                let found = lines.iter().find(|(end, _)| path.ends_with(end)).map(|(_, group)| group.clone());
                found.ok_or_else(|| unknown(path, "the table"))
            }
            // Escaped, a path is text that no other has.
            Self::Alike | Self::None => Ok(format!("{path:?}")),
        };
        match self {
            Self::Alike => Ok(None),
            _ => paths.iter().map(|path| label(path.as_ref())).collect::<Result<_>>().map(Some),
        }
    }
}

/// Lines of a table by the name of their file, those with the longest ends of paths first.
type Table = HashMap<String, Vec<(String, String)>>;

/// Lines of a file and its part, apart by the last comma.
fn table(path: &Path) -> Result<Table> {
    let mut table = Table::new();
    for (i, line) in input_file::text(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || argument(format!("{}, line {}: expected FILE,PART", shown(path), i + 1));
        let (file, part) = line.rsplit_once(',').ok_or_else(wrong)?;
        let name = Path::new(file.trim()).file_name().ok_or_else(wrong)?.to_string_lossy().into_owned();
        table.entry(name).or_default().push((file.trim().into(), part.trim().into()));
    }
    table.values_mut().for_each(|lines| lines.sort_by_key(|(end, _)| std::cmp::Reverse(end.len())));
    Ok(table)
}

/// Numbers of images that are kept, and of those that are set aside: whole groups, in the given order, until `count` images or
/// more are set aside. Groups of more than a quarter of these come last, by rising size: without them what is kept would lack a whole kind, and
/// what is set aside would be of few parts. One group at least is kept.
pub fn set_aside(groups: &[usize], count: usize, order: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    groups.iter().enumerate().for_each(|(i, group)| members.entry(*group).or_default().push(i));
    let large = |group: &usize| members[group].len() > (count / 4).max(1);
    let mut seen = HashSet::new();
    let first: Vec<usize> = order.iter().map(|i| groups[*i]).filter(|group| seen.insert(*group)).collect();
    let (mut rest, small): (Vec<usize>, Vec<usize>) = first.into_iter().partition(large);
    rest.sort_by_key(|group| members[group].len());
    let (mut taken, mut images) = (HashSet::new(), 0);
    for group in small.into_iter().chain(rest) {
        if images < count && taken.len() + 1 < members.len() {
            images += members[&group].len();
            taken.insert(group);
        }
    }
    (0..groups.len()).partition(|i| !taken.contains(&groups[*i]))
}

/// Numbers of the defective images that a supervised method learns from: about the given share of each kind of defect, drawn by
/// the seed; whole groups, so that of what is left none is of a part that is learned from. Of a kind with two groups or more at
/// least one is learned from, and one left but where all are of parts with a defect of an earlier kind that are learned from.
pub fn defective_to_learn(items: &[Item], groups: &[usize], share: f64, seed: u64) -> Vec<usize> {
    let mut kinds: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let defective = (0..items.len()).filter(|i| items[*i].defective);
    defective.clone().for_each(|i| kinds.entry(&items[i].kind).or_default().push(i));
    let (mut learned, mut left) = (HashSet::new(), HashSet::new());
    for (index, images) in kinds.values().enumerate() {
        let n = images.len();
        let take = ((n as f64 * share).round() as usize).clamp(usize::from(n > 1), n.saturating_sub(1).max(1));
        let order = random::shuffled(n, seed, "defective split", index as u64);
        let group_of = |at: &usize| groups[images[*at]];
        // Groups that no earlier kind has decided on, in the order of the draw.
        let is_open = |at: &usize| !learned.contains(&group_of(at)) && !left.contains(&group_of(at));
        let open: Vec<usize> = order.into_iter().filter(is_open).collect();
        let taken = (0..n).filter(|at| learned.contains(&group_of(at))).count();
        let of_open: Vec<usize> = open.iter().map(group_of).collect();
        let one_is_left = n == 1 || (0..n).any(|at| left.contains(&group_of(&at)));
        let more = first_groups(&of_open, take.saturating_sub(taken), one_is_left);
        learned.extend(more.into_iter().map(|at| of_open[at]));
        left.extend((0..n).map(|at| group_of(&at)).filter(|group| !learned.contains(group)));
    }
    defective.filter(|i| learned.contains(&groups[*i])).collect()
}

/// Numbers of the first images of some in an order, whole groups, as [`set_aside`]; all of them at most if `all_may_go`.
fn first_groups(groups: &[usize], count: usize, all_may_go: bool) -> Vec<usize> {
    // One that is in no order stays behind.
    let behind = if all_may_go { Some(usize::MAX) } else { None };
    let groups: Vec<usize> = groups.iter().copied().chain(behind).collect();
    let order: Vec<usize> = (0..groups.len()).filter(|at| groups[*at] != usize::MAX).collect();
    set_aside(&groups, count, &order).1
}

/// The fold of each image: whole groups, the images of either class dealt out evenly in the order drawn by the seed.
pub fn folds(groups: &[usize], class: &[bool], folds: usize, seed: u64) -> Vec<usize> {
    let mut fold: Vec<Option<usize>> = vec![None; groups.len()];
    for of_class in [false, true] {
        let images: Vec<usize> = (0..groups.len()).filter(|i| class[*i] == of_class).collect();
        let mut counts = vec![0; folds];
        images.iter().filter_map(|i| fold[*i]).for_each(|f| counts[f] += 1);
        for at in random::shuffled(images.len(), seed, "folds", u64::from(of_class)) {
            let first = images[at];
            if fold[first].is_some() {
                continue;
            }
            let emptiest = (0..folds).min_by_key(|f| counts[*f]).expect("there are folds");
            for i in (0..groups.len()).filter(|i| groups[*i] == groups[first]) {
                fold[i] = Some(emptiest);
                counts[emptiest] += usize::from(class[i] == of_class);
            }
        }
    }
    fold.into_iter().map(|f| f.expect("every image has one of the classes")).collect()
}
