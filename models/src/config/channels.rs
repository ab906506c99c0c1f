//! How many channels images have.

use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

/// Number of channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Channels {
    /// 1 or 3.
    Count(usize),
    /// `"auto"`: 1 when all images are gray.
    Word(String),
}

impl Channels {
    /// `"auto"`.
    pub fn auto() -> Self {
        Self::Word("auto".into())
    }

    /// The number, once it is known whether the images are gray.
    ///
    /// # Errors
    /// For anything but `auto`, 1 and 3.
    pub fn resolve(&self, gray: bool) -> Result<usize> {
        match self {
            Self::Word(word) if word == "auto" => Ok(if gray { 1 } else { 3 }),
            Self::Count(n @ (1 | 3)) => Ok(*n),
            Self::Word(word) => Err(Error::Config(format!("setting channels = {word:?}: use \"auto\", 1 or 3"))),
            Self::Count(n) => Err(Error::Config(format!("setting channels = {n}: use \"auto\", 1 or 3"))),
        }
    }
}
