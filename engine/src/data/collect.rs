//! The images under files and folders that a user names.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::folder::Lister;
use super::left_out::{self, LeftOut};
use super::names::{make_distinct, text};
use crate::error::{AtPath, Result};
use crate::input_file;

/// Images that were found.
#[derive(Debug, Default)]
pub struct Collected {
    /// Each with a name that no other has, whatever the case of letters; files that are written for it can have it.
    pub images: Vec<(PathBuf, String)>,
    /// Files in the folders that have the names of images and are none.
    pub left_out: Vec<LeftOut>,
    /// The named folders that hold no image, whether another of them leads to it too or not.
    pub empty: Vec<PathBuf>,
}

impl Collected {
    /// What the user should know of the files that are left out, one line each.
    pub fn warnings(&self) -> Vec<String> {
        left_out::warnings(&self.left_out)
    }
}

/// All images under the given files and folders. Folders are searched deeply, in name order, and each real one once, however
/// many links lead to it. A name is that of the file, after those of the folders that were searched for it.
///
/// # Errors
/// When a path does not exist, is no regular file or folder, or a folder cannot be read.
pub fn collect_images(paths: &[PathBuf]) -> Result<Collected> {
    let mut lister = Lister::default();
    let (mut images, mut empty) = (Vec::new(), Vec::new());
    for path in paths {
        if !std::fs::metadata(path).at(path)?.is_dir() {
            input_file::check(path)?;
            images.push((path.clone(), text(stem(path))));
            continue;
        }
        let found = lister.walk(path)?;
        // Nothing new is found in a folder that an earlier path has covered; that is no empty folder.
        if found.is_empty() && Lister::default().walk(path)?.is_empty() {
            empty.push(path.clone());
        }
        for (folder, found) in found {
            let prefix = prefix(folder.strip_prefix(path).unwrap_or(&folder));
            images.extend(found.into_iter().map(|image| (image.clone(), prefix.clone() + &text(stem(&image)))));
        }
    }
    make_distinct(images.iter_mut().map(|(_, name)| name));
    Ok(Collected { images, left_out: lister.left_out, empty })
}

fn stem(path: &Path) -> &OsStr {
    path.file_stem().unwrap_or_default()
}

/// The names of folders, one after the other.
fn prefix(folders: &Path) -> String {
    folders.iter().map(|name| text(name) + "__").collect()
}
