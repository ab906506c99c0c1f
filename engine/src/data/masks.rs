//! Which masks belong to which image.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::folder::{Contents, Lister};
use super::left_out::Reason;
use super::{Layout, bad};
use crate::error::Result;

/// Masks of one kind of defect, by the names of their files and folders without the ending. Names need not be text.
#[derive(Debug, Default)]
pub(super) struct Masks {
    files: HashMap<Vec<u8>, PathBuf>,
    folders: HashMap<Vec<u8>, PathBuf>,
}

/// Name of a file without its ending.
fn stem(path: &Path) -> &[u8] {
    path.file_stem().unwrap_or_default().as_encoded_bytes()
}

/// Whether the values of a file are kept as they were drawn; PNG is looked at first.
fn is_exact(path: &Path) -> bool {
    !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"))
}

/// The masks whose values can be relied on; the others are left out.
fn exact(files: Vec<PathBuf>, lister: &mut Lister) -> Vec<PathBuf> {
    let (exact, lossy) = files.into_iter().partition::<Vec<_>, _>(|file| is_exact(file));
    lossy.into_iter().for_each(|file| lister.leave_out(file, Reason::LossyMask));
    exact
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"))
}

impl Masks {
    /// Reads the folder of masks of a kind.
    ///
    /// # Errors
    /// When it cannot be read, or holds a mask of none of the images.
    pub(super) fn read(folder: &Path, images: &[PathBuf], lister: &mut Lister) -> Result<Self> {
        let Contents { images: files, folders } = lister.list(folder)?;
        let known: HashSet<&[u8]> = images.iter().map(|p| stem(p)).collect();
        for mask in files.iter().chain(&folders) {
            let own = stem(mask);
            if !known.contains(own.strip_suffix(b"_mask").unwrap_or(own)) {
                return bad(mask, "mask without an image of that name in test/; remove it or add the image");
            }
        }
        let mut files = exact(files, lister);
        files.sort_by_key(|p| is_png(p)); // the last of a name is kept
        let by_stem = |paths: Vec<PathBuf>| paths.into_iter().map(|p| (stem(&p).to_vec(), p)).collect();
        Ok(Self { files: by_stem(files), folders: by_stem(folders) })
    }

    /// Masks of one image: `NAME_mask.png` or `NAME.png`, else every image in the folder `NAME`; in LOCO's layout the folder
    /// comes first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn of(&self, image: &Path, layout: Layout, lister: &mut Lister) -> Result<Vec<PathBuf>> {
        let name = stem(image);
        let folder = self.folders.get(name);
        let file = self.files.get(&[name, b"_mask"].concat()).or_else(|| self.files.get(name));
        match (folder, file) {
            (Some(folder), file) if file.is_none() || layout == Layout::Loco => {
                let files = lister.list(folder)?.images;
                Ok(exact(files, lister))
            }
            (_, file) => Ok(file.into_iter().cloned().collect()),
        }
    }
}
