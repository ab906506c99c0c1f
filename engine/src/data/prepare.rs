//! One pass over training images before training: every file is decoded once, so that a broken one
//! is known at the start, and hashed, so that the model can say what it was trained on.

use std::path::Path;
use std::str::FromStr;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::groups::Thumbnail;
use super::roi::Roi;
use super::{Item, decode, notices};
use crate::error::{AtPath, Error, Result};
use crate::input_file;

/// What to do with a file that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBroken {
    /// Stop and name it.
    #[default]
    Refuse,
    /// Name it and go on without it.
    Skip,
}

impl OnBroken {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Skip => "skip",
        }
    }
}

impl FromStr for OnBroken {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = [Self::Refuse, Self::Skip].into_iter().find(|choice| choice.name() == name);
        let reason = format!("{name:?} is none of refuse and skip");
        found.ok_or(Error::Argument { name: "on_broken", reason })
    }
}

/// Images that can be used, and what is common to them.
pub struct Prepared {
    /// Those that could be decoded, in order.
    pub items: Vec<Item>,
    /// Whether each is gray.
    pub gray: Vec<bool>,
    /// SHA-256 of each file.
    pub hashes: Vec<String>,
    /// A thumbnail of each.
    pub thumbnails: Vec<Thumbnail>,
    /// Rows and columns of each.
    pub sizes: Vec<(usize, usize)>,
    /// Why each file that was left out cannot be used.
    pub skipped: Vec<Error>,
    /// What else the user should know about the images, one line each.
    pub warnings: Vec<String>,
}

impl Prepared {
    /// Those images whose flag is set.
    #[must_use]
    pub fn only(mut self, wanted: &[bool]) -> Self {
        fn keep<T>(all: &mut Vec<T>, wanted: &[bool]) {
            let mut wanted = wanted.iter();
            all.retain(|_| *wanted.next().expect("a flag for each"));
        }
        keep(&mut self.items, wanted);
        keep(&mut self.gray, wanted);
        keep(&mut self.hashes, wanted);
        keep(&mut self.thumbnails, wanted);
        keep(&mut self.sizes, wanted);
        self
    }

    /// Whether all are gray.
    pub fn are_gray(&self) -> bool {
        self.gray.iter().all(|gray| *gray)
    }

    /// Images with fewer rows or columns than `side`.
    pub fn smaller(&self, side: usize) -> usize {
        self.sizes.iter().filter(|(h, w)| *h.min(w) < side).count()
    }
}

/// What is found out about an image.
struct Found {
    gray: bool,
    /// Rows and columns.
    size: (usize, usize),
    sha256: String,
    thumbnail: Thumbnail,
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a file of any length.
///
/// # Errors
/// When it cannot be read.
pub fn file_sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut input_file::open(path)?, &mut hash).at(path)?;
    Ok(hex(&hash.finalize()))
}

/// SHA-256 over the SHA-256 of some files, in order.
pub fn list_sha256<'a>(hashes: impl IntoIterator<Item = &'a String>) -> String {
    let hash = hashes.into_iter().fold(Sha256::new(), |hash, file| hash.chain_update(file));
    hex(&hash.finalize())
}

/// Decodes and hashes every image; thumbnails are of the region that is looked at, or of all.
///
/// # Errors
/// The first file in order that is broken, or that the region does not lie in, under [`OnBroken::Refuse`].
pub fn prepare(items: &[Item], roi: Option<&Roi>, on_broken: OnBroken) -> Result<Prepared> {
    let looked_at: Vec<Result<Found>> = items
        .par_iter()
        .map(|item| {
            let bytes = decode::read(&item.path)?;
            let raster = decode::decode_at(&item.path, &bytes)?;
            let thumbnail = Thumbnail::new(&raster.fit(Thumbnail::SPEC, roi).map_err(|e| e.of_file(&item.path))?);
            let size = (raster.height(), raster.width());
            Ok(Found { gray: raster.channels() == 1, size, sha256: hex(&Sha256::digest(&bytes)), thumbnail })
        })
        .collect();
    let mut prepared = Prepared {
        items: Vec::new(),
        gray: Vec::new(),
        hashes: Vec::new(),
        thumbnails: Vec::new(),
        sizes: Vec::new(),
        skipped: Vec::new(),
        warnings: notices::take(),
    };
    for (item, result) in items.iter().zip(looked_at) {
        match result {
            Ok(Found { gray, size, sha256, thumbnail }) => {
                prepared.thumbnails.push(thumbnail);
                prepared.gray.push(gray);
                prepared.sizes.push(size);
                prepared.hashes.push(sha256);
                prepared.items.push(item.clone());
            }
            Err(error) if on_broken == OnBroken::Skip => prepared.skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(prepared)
}
