//! Listing folders: which entries are images, which are folders, and what is left out with a word about it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::left_out::{LeftOut, Reason};
use crate::error::{AtPath, Result};

/// File endings that are taken for images.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// Endings of images that are not read.
const OTHER_ENDINGS: [&str; 21] = [
    "avif", "cr2", "dds", "dib", "dng", "exr", "gif", "hdr", "heic", "heif", "ico", "jfif", "jp2", "jpe", "jxl", "nef",
    "pbm", "pgm", "ppm", "tga", "webp",
];

/// Files that systems put into folders of their own accord; others begin with a dot.
const OF_THE_SYSTEM: [&str; 3] = ["thumbs.db", "desktop.ini", "__macosx"];

/// What a folder holds, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Image files.
    pub images: Vec<PathBuf>,
    /// Folders; links come after those that are really there.
    pub folders: Vec<PathBuf>,
}

impl Contents {
    /// Folders of that name in any case, the exact one first.
    pub(super) fn named(&self, name: &OsStr) -> Vec<&PathBuf> {
        let same = |p: &&PathBuf| p.file_name().is_some_and(|n| n.eq_ignore_ascii_case(name));
        let mut found: Vec<_> = self.folders.iter().filter(same).collect();
        found.sort_by_key(|p| p.file_name() != Some(name));
        found
    }

    /// The folder of that name, in any case where no name is exact.
    pub(super) fn folder(&self, name: impl AsRef<OsStr>) -> Option<&PathBuf> {
        self.named(name.as_ref()).first().copied()
    }
}

/// Lists folders and keeps account of the files that are left out.
#[derive(Debug, Default)]
pub(super) struct Lister {
    visited: HashSet<PathBuf>,
    /// Files that were left out, in the order they were met.
    pub left_out: Vec<LeftOut>,
}

impl Lister {
    /// What a folder holds; nothing when it was visited before by this or another name, so that links to folders above end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn visit(&mut self, folder: &Path) -> Result<Contents> {
        let new = self.visited.insert(std::fs::canonicalize(folder).at(folder)?);
        if new { self.list(folder) } else { Ok(Contents::default()) }
    }

    /// What a folder holds, visited or not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn list(&mut self, folder: &Path) -> Result<Contents> {
        let mut contents = Contents::default();
        for path in entries(folder)? {
            let kind = std::fs::metadata(&path);
            let of_type = |endings: &[&str]| endings.contains(&ending(&path).as_str());
            match kind {
                Ok(kind) if kind.is_dir() => contents.folders.push(path),
                Ok(kind) if kind.is_file() && of_type(&ENDINGS) => contents.images.push(path),
                _ if of_type(&ENDINGS) => self.leave_out(path, Reason::Irregular),
                _ if of_type(&OTHER_ENDINGS) => self.leave_out(path, Reason::OtherType),
                _ => {}
            }
        }
        contents.folders.sort_by_cached_key(|p| (p.is_symlink(), p.clone()));
        Ok(contents)
    }

    /// Every folder under one that holds images, with them; those of a folder come before those of its folders.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub(super) fn walk(&mut self, folder: &Path) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
        let contents = self.visit(folder)?;
        let mut found = Vec::new();
        if !contents.images.is_empty() {
            found.push((folder.to_path_buf(), contents.images));
        }
        for inner in contents.folders {
            found.extend(self.walk(&inner)?);
        }
        Ok(found)
    }

    /// Notes that a file is left out.
    pub(super) fn leave_out(&mut self, path: PathBuf, reason: Reason) {
        self.left_out.push(LeftOut { path, reason });
    }

    /// Notes that images are left out as their folder says nothing about them.
    pub(super) fn leave_elsewhere(&mut self, images: Vec<PathBuf>) {
        images.into_iter().for_each(|image| self.leave_out(image, Reason::Elsewhere));
    }
}

fn ending(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

/// Paths of the entries of a folder, sorted, without hidden files and those of the system.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().unwrap_or_default();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && !OF_THE_SYSTEM.iter().any(|n| name.eq_ignore_ascii_case(n)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The image files of one folder, sorted by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(Lister::default().list(folder)?.images)
}
