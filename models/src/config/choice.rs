//! A number, or `"auto"`.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::Interval;

/// A number, or how it is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// This value.
    Fixed(f64),
    /// `"auto"`: as the setting's documentation says.
    Word(String),
}

impl Choice {
    /// `"auto"`.
    pub fn auto() -> Self {
        Self::Word("auto".into())
    }

    /// The value, when it is fixed.
    pub fn fixed(&self) -> Option<f64> {
        match self {
            Self::Fixed(v) => Some(*v),
            Self::Word(_) => None,
        }
    }

    /// Whether it is `"auto"`.
    pub fn is_auto(&self) -> bool {
        matches!(self, Self::Word(word) if word == "auto")
    }

    /// Whether it is `"auto"` or a value of an interval.
    pub fn is_auto_or(&self, allowed: Interval<f64>) -> bool {
        self.is_auto() || self.fixed().is_some_and(|v| allowed.contains(&v))
    }
}

impl Display for Choice {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(v) => v.fmt(to),
            Self::Word(word) => word.fmt(to),
        }
    }
}
