//! Files with the names of images that are not taken for images, and why.

use std::path::PathBuf;

use crate::error::{Error, shown};

/// Why a file is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An image of a type that is not read.
    OtherType,
    /// No regular file: a broken link, pipe, socket or device.
    Irregular,
    /// A mask in JPEG.
    LossyMask,
    /// An image in a folder that no label comes from.
    Elsewhere,
}

impl Reason {
    const ALL: [Self; 4] = [Self::OtherType, Self::Irregular, Self::LossyMask, Self::Elsewhere];

    fn text(self) -> &'static str {
        match self {
            Self::OtherType => "left out, as hotad reads PNG, JPEG, BMP and TIFF alone; convert or remove",
            Self::Irregular => {
                "left out, as no regular file is there (a broken link, pipe, socket or device); replace or remove"
            }
            Self::LossyMask => "left out, as JPEG does not keep the values of a mask; save as PNG",
            Self::Elsewhere => "left out, as the folder around does not say what images show; move or remove",
        }
    }
}

/// A file that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: Reason,
}

impl LeftOut {
    /// The same as an error.
    pub fn error(&self) -> Error {
        Error::Image { path: self.path.clone(), reason: self.reason.text().into() }
    }
}

/// One line for each reason.
pub(super) fn warnings(files: &[LeftOut]) -> Vec<String> {
    Reason::ALL.into_iter().filter_map(|reason| warning(files, reason)).collect()
}

fn warning(files: &[LeftOut], reason: Reason) -> Option<String> {
    let mut these = files.iter().filter(|file| file.reason == reason);
    let first = these.next()?;
    Some(match these.count() {
        0 => first.error().to_string(),
        others => format!("{} files {}; the first is {}", others + 1, reason.text(), shown(&first.path)),
    })
}
