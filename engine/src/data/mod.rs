//! Data sets: recognising the folder layout, listing images, labels and masks.
//!
//! Four layouts are known by their shape: MVTec AD (`train/good`, `test/*`, `ground_truth/*`), MVTec
//! LOCO (the same with `validation/good` and a folder of masks per image), `positive`/`negative`
//! folders (positive = defective), and a plain folder of normal images. The case of these names does not count, `train` may hold
//! its images itself, and a folder may hold them in one folder further down.

pub mod collect;
pub mod corrupt;
pub mod crop;
pub mod decode;
pub mod files;
mod folder;
pub mod frame;
pub mod groups;
mod jpeg;
mod layout;
pub mod left_out;
pub mod limits;
pub mod loader;
pub mod loco;
mod masks;
pub mod names;
pub mod notices;
mod pages;
pub mod picture;
pub mod prepare;
pub mod preprocess;
pub mod raster;
pub mod roi;
pub mod synth;
mod tiff;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, Result, shown};

use prepare::{file_sha256, list_sha256};

pub use folder::images_in;
pub use prepare::OnBroken;

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
    /// What the user should know about its files, one line each.
    pub warnings: Vec<String>,
}

fn bad<T>(path: &Path, reason: impl Into<String>) -> Result<T> {
    Err(Error::Data { path: path.to_path_buf(), reason: reason.into() })
}

impl Dataset {
    /// Recognises the layout of `root` and lists its images.
    ///
    /// # Errors
    /// When the folder is missing, holds no images, or its masks do not belong to its images.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return bad(root, "not a folder; a data set is one");
        }
        layout::Reader::new(root).read()
    }

    /// SHA-256 of what it holds, wherever it lies: the part, kind, path within its folder and content of each image and mask.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        let mut files = Vec::new();
        for (part, items) in [("train", &self.train), ("validation", &self.validation), ("test", &self.test)] {
            for item in items {
                let own = std::iter::once(&item.path).chain(&item.masks);
                files.extend(own.map(|file| (part, &*item.kind, file.clone())));
            }
        }
        // How defects of LOCO are counted.
        files.extend(Some(self.root.join(loco::CONFIG)).filter(|file| file.is_file()).map(|file| ("", "", file)));
        let line = |(part, kind, file): &(&str, &str, PathBuf)| {
            let inside = shown(file.strip_prefix(&self.root).unwrap_or(file));
            Ok(format!("{part}\n{kind}\n{inside}\n{}\n", file_sha256(file)?))
        };
        Ok(list_sha256(&files.par_iter().map(line).collect::<Result<Vec<String>>>()?))
    }

    /// Why there are no pixel metrics: defective test images, or masks of some, are missing.
    pub fn missing_masks(&self) -> Option<String> {
        let defective = self.test.iter().filter(|i| i.defective);
        let missing: Vec<&Item> = defective.clone().filter(|i| i.masks.is_empty()).collect();
        match (missing.first(), defective.count()) {
            (_, 0) => Some("the data set has no defective images".into()),
            (None, _) => None,
            (Some(_), all) if all == missing.len() => Some("the data set has no masks for its defective images".into()),
            (Some(first), all) => Some(format!(
                "{} of {all} defective images lack a mask, the first is {}",
                missing.len(),
                shown(&first.path)
            )),
        }
    }
}
