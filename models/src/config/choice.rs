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

    /// The value as a count, when it is fixed.
    pub fn fixed_count(&self) -> Option<usize> {
        self.fixed().map(|v| v as usize)
    }

    /// Whether it is `"auto"` or a whole number from 0 to `most`.
    pub fn is_auto_or_count(&self, most: u32) -> bool {
        self.is_auto_or(Interval::Closed(0.0, f64::from(most))) && self.fixed().is_none_or(|v| v.fract() == 0.0)
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
