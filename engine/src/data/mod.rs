//! Data sets: recognising the folder layout, listing images, labels and masks.
//!
//! Four layouts are known by their shape: MVTec AD (`train/good`, `test/*`, `ground_truth/*`), MVTec
//! LOCO (the same with `validation/good` and a folder of masks per image), `positive`/`negative`
//! folders (positive = defective), and a plain folder of normal images.

pub mod corrupt;
pub mod crop;
pub mod loader;
pub mod loco;
pub mod picture;
pub mod prepare;
pub mod synth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{AtPath, Error, Result};
use crate::random;

/// File endings that are taken for images.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// Share of the normal images of a positive/negative folder that is kept for testing.
const NEGATIVE_TEST_SHARE: f64 = 0.3;

/// The folder layout of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// MVTec AD.
    Mvtec,
    /// MVTec LOCO.
    Loco,
    /// `positive` (defective) and `negative` (normal) folders.
    PositiveNegative,
    /// A folder of normal images, without tests.
    Plain,
}

/// One image and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Image file.
    pub path: PathBuf,
    /// `good`, or the name of the defect.
    pub kind: String,
    /// Whether it is defective.
    pub defective: bool,
    /// Mask files; none for a normal image or where the data set has no masks.
    pub masks: Vec<PathBuf>,
}

/// A data set, sorted by path.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Folder.
    pub root: PathBuf,
    /// Layout that was recognised.
    pub layout: Layout,
    /// Normal images to learn from.
    pub train: Vec<Item>,
    /// Normal images to calibrate with, where the data set names them.
    pub validation: Vec<Item>,
    /// Labelled images.
    pub test: Vec<Item>,
}

fn bad<T>(path: &Path, reason: impl Into<String>) -> Result<T> {
    Err(Error::Data { path: path.to_path_buf(), reason: reason.into() })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        paths.push(entry.at(folder)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    path.is_file() && ENDINGS.contains(&ending.as_str())
}

/// The image files of one folder, sorted by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|p| is_image(p)).collect())
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|p| p.is_dir()).collect())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn normal(paths: Vec<PathBuf>) -> Vec<Item> {
    paths.into_iter().map(|path| Item { path, kind: "good".into(), defective: false, masks: Vec::new() }).collect()
}

impl Dataset {
    /// Recognises the layout of `root` and lists its images.
    ///
    /// # Errors
    /// When the folder is missing, holds no images, or its masks do not belong to its images.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return bad(root, "not a folder; --data wants the folder of a data set");
        }
        let data = if root.join("train/good").is_dir() || root.join("test").is_dir() {
            Self::open_mvtec(root)?
        } else if root.join("positive").is_dir() && root.join("negative").is_dir() {
            Self::open_positive_negative(root)?
        } else {
            let train = normal(images_in(root)?);
            Self { root: root.into(), layout: Layout::Plain, train, validation: Vec::new(), test: Vec::new() }
        };
        if data.train.is_empty() && data.test.is_empty() {
            return bad(
                root,
                "no images found; expected train/good and test/* (MVTec AD), positive/ and negative/, or image files",
            );
        }
        Ok(data)
    }

    fn open_mvtec(root: &Path) -> Result<Self> {
        let listed = |folder: &str| {
            let path = root.join(folder);
            if path.is_dir() { images_in(&path).map(normal) } else { Ok(Vec::new()) }
        };
        let (train, validation) = (listed("train/good")?, listed("validation/good")?);
        let kinds = ["logical_anomalies", "structural_anomalies"];
        let loco = root.join(loco::CONFIG).is_file() || kinds.iter().any(|k| root.join("test").join(k).is_dir());
        let layout = if loco { Layout::Loco } else { Layout::Mvtec };
        let mut test = Vec::new();
        if root.join("test").is_dir() {
            for folder in folders_in(&root.join("test"))? {
                let kind = name(&folder);
                let truth = root.join("ground_truth").join(&kind);
                let items = images_in(&folder)?;
                check_orphans(&truth, &items)?;
                for path in items {
                    let masks = if kind == "good" { Vec::new() } else { masks_of(&truth, &path, layout)? };
                    test.push(Item { path, kind: kind.clone(), defective: kind != "good", masks });
                }
            }
        }
        Ok(Self { root: root.into(), layout, train, validation, test })
    }

    /// Normal images are split by a fixed shuffle of their names: 30 % are kept for testing.
    fn open_positive_negative(root: &Path) -> Result<Self> {
        let mut test: Vec<Item> = images_in(&root.join("positive"))?
            .into_iter()
            .map(|path| Item { path, kind: "positive".into(), defective: true, masks: Vec::new() })
            .collect();
        let negatives = normal(images_in(&root.join("negative"))?);
        let kept = (negatives.len() as f64 * NEGATIVE_TEST_SHARE).round() as usize;
        let order = random::shuffled(negatives.len(), 0, "negative test split", 0);
        let mut train: Vec<Item> = order[kept..].iter().map(|i| negatives[*i].clone()).collect();
        train.sort_by(|a, b| a.path.cmp(&b.path));
        test.extend(order[..kept].iter().map(|i| negatives[*i].clone()));
        Ok(Self { root: root.into(), layout: Layout::PositiveNegative, train, validation: Vec::new(), test })
    }

    /// Defective test images that a supervised method learns from: the given share of each kind of defect,
    /// at least one and not all where there are two; chosen by a seeded shuffle.
    pub fn defective_to_learn(&self, share: f64, seed: u64) -> Vec<Item> {
        let mut kinds: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
        self.test.iter().filter(|i| i.defective).for_each(|i| kinds.entry(&i.kind).or_default().push(i));
        let mut learned = Vec::new();
        for (index, items) in kinds.values().enumerate() {
            let n = items.len();
            let take = ((n as f64 * share).round() as usize).clamp(usize::from(n > 1), n.saturating_sub(1).max(1));
            let order = random::shuffled(n, seed, "defective split", index as u64);
            learned.extend(order[..take].iter().map(|i| items[*i].clone()));
        }
        learned.sort_by(|a, b| a.path.cmp(&b.path));
        learned
    }

    /// Whether every defective test image has a mask.
    pub fn has_masks(&self) -> bool {
        self.test.iter().any(|i| i.defective) && self.test.iter().all(|i| !i.defective || !i.masks.is_empty())
    }
}

/// Masks of one image: `NAME_mask.png` or `NAME.png`, else every image in the folder `NAME`; in LOCO's layout the folder comes
/// first.
fn masks_of(truth: &Path, image: &Path, layout: Layout) -> Result<Vec<PathBuf>> {
    let stem = stem(image);
    let folder = truth.join(&stem);
    if layout == Layout::Loco && folder.is_dir() {
        return images_in(&folder);
    }
    for candidate in [format!("{stem}_mask.png"), format!("{stem}.png")] {
        let path = truth.join(candidate);
        if path.is_file() {
            return Ok(vec![path]);
        }
    }
    if folder.is_dir() { images_in(&folder) } else { Ok(Vec::new()) }
}

/// Refuses masks that belong to no image.
fn check_orphans(truth: &Path, images: &[PathBuf]) -> Result<()> {
    if !truth.is_dir() {
        return Ok(());
    }
    let known: std::collections::HashSet<String> = images.iter().map(|p| stem(p)).collect();
    for mask in entries(truth)? {
        let own = stem(&mask);
        if !known.contains(own.strip_suffix("_mask").unwrap_or(&own)) {
            return bad(&mask, "mask without an image of that name in test/; remove it or add the image");
        }
    }
    Ok(())
}
