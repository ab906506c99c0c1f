//! Rows and columns of the images that a model takes.

use std::fmt;
use std::ops::RangeInclusive;

use hotad_engine::data::picture::ImageSpec;
use serde::{Deserialize, Serialize, Serializer};

/// Rows and columns; as a setting one number where they are the same, else `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Sides {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Up to here fractions hold every whole number; which sides a method takes it says itself.
const MOST: f64 = (1_u64 << 53) as f64;

/// Sides in a settings file or a model file, which may hold whole numbers as fractions.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Square(f64),
    Two([f64; 2]),
}

impl TryFrom<Written> for Sides {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let [height, width] = match written {
            Written::Square(side) => [side; 2],
            Written::Two(sides) => sides,
        };
        let is_count = |side: f64| side.fract() == 0.0 && (0.0..=MOST).contains(&side);
        match is_count(height) && is_count(width) {
            true => Ok(Self { height: height as usize, width: width as usize }),
            false => Err(format!("rows and columns are whole numbers, not {height} and {width}")),
        }
    }
}

impl Serialize for Sides {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.height == self.width {
            true => self.height.serialize(to),
            false => [self.height, self.width].serialize(to),
        }
    }
}

impl From<usize> for Sides {
    fn from(side: usize) -> Self {
        Self { height: side, width: side }
    }
}

impl From<ImageSpec> for Sides {
    fn from(image: ImageSpec) -> Self {
        Self { height: image.height, width: image.width }
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self.height == self.width {
            true => self.height.fmt(to),
            false => write!(to, "[{}, {}]", self.height, self.width),
        }
    }
}

impl Sides {
    /// Whether both are in a range.
    pub fn are_in(self, range: &RangeInclusive<usize>) -> bool {
        range.contains(&self.height) && range.contains(&self.width)
    }

    /// Both brought up to multiples of a number.
    #[must_use]
    pub fn next_multiples_of(self, of: usize) -> Self {
        Self { height: self.height.next_multiple_of(of), width: self.width.next_multiple_of(of) }
    }

    /// Images of this size with so many channels.
    pub fn image(self, channels: usize) -> ImageSpec {
        ImageSpec { height: self.height, width: self.width, channels }
    }
}

/// [`Sides`], or how they are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SidesChoice {
    /// These.
    Fixed(Sides),
    /// `"auto"`: as the setting's documentation says.
    Word(String),
}

impl SidesChoice {
    /// `"auto"`.
    pub fn auto() -> Self {
        Self::Word("auto".into())
    }

    /// The sides, when they are fixed.
    pub fn fixed(&self) -> Option<Sides> {
        match self {
            Self::Fixed(sides) => Some(*sides),
            Self::Word(_) => None,
        }
    }

    /// Whether it is `"auto"`, or both sides are in a range.
    pub fn is_auto_or_in(&self, range: &RangeInclusive<usize>) -> bool {
        match self {
            Self::Fixed(sides) => sides.are_in(range),
            Self::Word(word) => word == "auto",
        }
    }
}

impl fmt::Display for SidesChoice {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(sides) => sides.fmt(to),
            Self::Word(word) => word.fmt(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_a_square_and_two_are_rows_and_columns() {
        let read = |text: &str| serde_json::from_str::<Sides>(text);
        assert_eq!(read("128").expect("a square"), Sides::from(128));
        assert_eq!(read("224.0").expect("as earlier versions wrote it"), Sides::from(224));
        assert_eq!(read("[256, 128]").expect("two"), Sides { height: 256, width: 128 });
        for wrong in ["1.5", "-3", "[1, 2, 3]", "[128, 1.5]", "\"auto\"", "1e30"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for sides in [Sides::from(64), Sides { height: 64, width: 96 }] {
            assert_eq!(read(&serde_json::to_string(&sides).expect("plain")).expect("its own"), sides);
        }
        assert_eq!(serde_json::to_string(&Sides::from(64)).expect("plain"), "64");
        assert_eq!(serde_json::from_str::<SidesChoice>("\"auto\"").expect("a word"), SidesChoice::auto());
    }
}
