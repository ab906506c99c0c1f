//! What a job may do with a file in the place of its result.

use std::fmt;
use std::path::{Path, PathBuf};

use hotad_engine::atomic_file::check_writable;
use hotad_engine::error::shown;
use hotad_engine::{Error, Result};

use crate::fit::checkpoints;

/// How a job begins where an earlier one has left a result or a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// Refuses a result or a checkpoint that is there.
    #[default]
    Afresh,
    /// Continues from the checkpoint beside the result.
    Resume,
    /// Writes over both.
    Over,
}

/// Why a job may not write its result to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The path is that of a folder.
    Folder,
    /// The path is that of a device or the like.
    Special,
    /// An earlier result is there.
    Result,
    /// This checkpoint of an interrupted run is there.
    Checkpoint(PathBuf),
    /// There is no checkpoint to continue from.
    NoCheckpoint,
}

impl Conflict {
    /// Why a job that begins in this way must not write to `out`, if it must not.
    pub fn of(out: &Path, begin: Begin) -> Option<Self> {
        match (checkpoints(out).first(), begin) {
            _ if out.is_dir() => Some(Self::Folder),
            _ if out.exists() && !out.is_file() => Some(Self::Special),
            _ if begin == Begin::Afresh && out.exists() => Some(Self::Result),
            (Some(path), Begin::Afresh) => Some(Self::Checkpoint(path.clone())),
            (None, Begin::Resume) => Some(Self::NoCheckpoint),
            _ => None,
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("is a folder; name a file"),
            Self::Special => f.write_str("is no regular file; name another"),
            Self::Result => f.write_str("is there already"),
            Self::Checkpoint(path) => write!(f, "{} is of an interrupted run", shown(path)),
            Self::NoCheckpoint => f.write_str("has no checkpoint to resume from"),
        }
    }
}

/// Fails early where a job could not write its result, would write over an earlier one, or has nothing to continue from.
///
/// # Errors
/// The [`Conflict`], or the I/O error of the folder.
pub fn check_result_file(out: &Path, begin: Begin) -> Result<()> {
    match Conflict::of(out, begin) {
        Some(conflict) => Err(Error::Config(format!("{}: {conflict}", shown(out)))),
        None => check_writable(out.parent().unwrap_or(Path::new("."))),
    }
}
