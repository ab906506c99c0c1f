//! Shards: one of N machines takes the images whose names fall to it, and the results of all are merged.
//!
//! An image falls to the shard that the SHA-256 of its path tells: the first eight bytes as a big-endian number, modulo N. The path
//! is relative to the folder that the user named, so that it does not matter where that is mounted.

pub mod file;

use std::fmt;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use crate::data::prepare::hex;
use crate::error::{AtPath, Error, Result};

/// One of some shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0 on.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Of `I/N`, or of the cluster job that the process is part of for `auto`; `variable` tells environment variables.
    ///
    /// # Errors
    /// Text that is neither, I that is not below N, or `auto` outside of such a job.
    pub fn of(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        if text == "auto" {
            return job(&variable);
        }
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let Some((index, count)) = numbers else {
            return refuse(format!("{text:?} is no shard; use I/N, I from 0 to N-1, or auto"));
        };
        Self::checked(index, count, text)
    }

    fn checked(index: usize, count: usize, from: &str) -> Result<Self> {
        match (index, count) {
            (_, 0) => refuse(format!("{from}: there is no shard of 0; N starts at 1")),
            _ if count > file::MOST => refuse(format!("{from}: {} shards at most", file::MOST)),
            _ if index >= count => refuse(format!("{from}: shards are numbered from 0, so I is at most {}", count - 1)),
            _ => Ok(Self { index, count }),
        }
    }

    /// Whether a file is of this shard, by its path relative to the folder that was named.
    pub fn takes(&self, relative: &Path) -> bool {
        let digest = Sha256::digest(name(relative));
        let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        number % self.count as u64 == self.index as u64
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Argument { name: "shard", reason })
}

/// The bytes of a path, with `/` between its parts on every system.
fn name(path: &Path) -> Vec<u8> {
    let parts = path.components().filter(|c| matches!(c, Component::Normal(_)));
    parts.map(|c| c.as_os_str().as_encoded_bytes()).collect::<Vec<_>>().join(&b'/')
}

/// The shard of a task of a Slurm array or of a pod of a Kubernetes indexed Job.
fn job(variable: &impl Fn(&str) -> Option<String>) -> Result<Shard> {
    let number = |name: &str| -> Result<usize> {
        let Some(text) = variable(name) else { return refuse(format!("auto: the job does not set {name}")) };
        text.parse().or_else(|_| refuse(format!("auto: {name}={text} is no number")))
    };
    if variable("SLURM_ARRAY_TASK_ID").is_some() {
        return array(&number);
    }
    if variable("JOB_COMPLETION_INDEX").is_some() {
        let (index, count) = (number("JOB_COMPLETION_INDEX")?, number("JOB_COMPLETIONS")?);
        return Shard::checked(index, count, "auto: JOB_COMPLETION_INDEX/JOB_COMPLETIONS");
    }
    refuse("auto works in a Slurm array or a Kubernetes indexed Job; elsewhere say I/N".into())
}

/// Tasks of a Slurm array are numbered from the smallest on in equal steps.
fn array(number: &impl Fn(&str) -> Result<usize>) -> Result<Shard> {
    let [id, least, most, count, step] =
        ["ID", "MIN", "MAX", "COUNT", "STEP"].map(|n| number(&format!("SLURM_ARRAY_TASK_{n}")));
    let (id, least, most, count, step) = (id?, least?, most?, count?, step?.max(1));
    let regular = most == least + step * count.saturating_sub(1) && id >= least && (id - least).is_multiple_of(step);
    if !regular {
        let reason = "the numbers of the Slurm array are no equal steps; use --array=0-N or say I/N";
        return refuse(format!("auto: {reason}"));
    }
    Shard::checked((id - least) / step, count, "auto: the task of the Slurm array")
}

/// What tells two listings of files apart: their relative paths, what is said of them and their lengths, as a SHA-256.
///
/// # Errors
/// When a file is gone.
pub fn listing_sha256<'a>(files: impl IntoIterator<Item = (&'a Path, &'a Path, &'a str)>) -> Result<String> {
    let mut hash = Sha256::new();
    for (relative, file, about) in files {
        // What is no regular file is listed too; it need not lead anywhere.
        let length = std::fs::symlink_metadata(file).at(file).map(|m| if m.is_file() { m.len() } else { 0 })?;
        for part in [&name(relative)[..], about.as_bytes(), &length.to_le_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex(&hash.finalize()))
}
