//! Image files that are looked at within a region of interest.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::decode;
use super::picture::{ImageSpec, Mask, Picture};
use super::roi::Roi;
use crate::error::Result;

/// Image files, and the region of them that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct ImageFiles<'a> {
    paths: &'a [PathBuf],
    roi: Option<&'a Roi>,
}

impl<'a> ImageFiles<'a> {
    /// Files that are looked at within a region.
    pub fn new(paths: &'a [PathBuf], roi: Option<&'a Roi>) -> Self {
        Self { paths, roi }
    }

    /// Files that are looked at as a whole.
    pub fn whole(paths: &'a [PathBuf]) -> Self {
        Self::new(paths, None)
    }

    /// Other files, looked at within the same region.
    #[must_use]
    pub fn with<'b>(&self, paths: &'b [PathBuf]) -> ImageFiles<'b>
    where
        'a: 'b,
    {
        ImageFiles { paths, roi: self.roi }
    }

    /// The files.
    pub fn paths(&self) -> &'a [PathBuf] {
        self.paths
    }

    /// The region; none where all of an image is looked at.
    pub fn roi(&self) -> Option<&'a Roi> {
        self.roi
    }

    /// File number `i` as a model takes it.
    ///
    /// # Errors
    /// When it cannot be read or decoded, or the region does not lie in it.
    pub fn read(&self, i: usize, spec: ImageSpec) -> Result<Picture> {
        read(&self.paths[i], spec, self.roi)
    }

    /// Undoes what has been drawn outside of the region on a picture of one of the files, and in its mask.
    pub fn undraw_outside(&self, picture: &mut Picture, mask: &mut Mask) {
        if let Some(roi) = self.roi {
            roi.gray(picture);
            roi.for_each_outside((mask.height, mask.width), |at| mask.defect[at] = false);
        }
    }
}

impl Deref for ImageFiles<'_> {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        self.paths
    }
}

/// A file within a region as a model takes it.
///
/// # Errors
/// As [`ImageFiles::read`].
pub fn read(path: &Path, spec: ImageSpec, roi: Option<&Roi>) -> Result<Picture> {
    decode::open(path)?.fit(spec, roi).map_err(|e| e.of_file(path))
}
