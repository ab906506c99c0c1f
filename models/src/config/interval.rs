//! Ranges of numbers that say in an error what they allow.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use hotad_engine::Result;

use super::require;

/// From a lower to an upper bound; [`Display`] puts it in words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interval<T> {
    /// Both bounds belong to it; also written `low..=high`.
    Closed(T, T),
    /// The lower bound belongs to it.
    RightOpen(T, T),
    /// The upper bound belongs to it.
    LeftOpen(T, T),
    /// Neither belongs to it.
    Open(T, T),
}

use Interval::{Closed, LeftOpen, Open, RightOpen};

/// Epochs of a training; the upper bound is more than any that ends.
pub const EPOCHS: Interval<usize> = Closed(1, 1_000_000);

/// Images of one step.
pub const BATCH: Interval<usize> = Closed(1, 1024);

/// Learning rates.
pub const RATE: Interval<f64> = Open(0.0, 1.0);

/// Shares that may be none or all.
pub const SHARE: Interval<f64> = Closed(0.0, 1.0);

/// Weights of a loss beside another.
pub const WEIGHT: Interval<f64> = Closed(0.0, 100.0);

/// Standard deviations of a blur, in pixels; 0 does not blur.
pub const BLUR: Interval<f64> = Closed(0.0, 20.0);

/// Finite numbers above 0.
pub const POSITIVE: Interval<f64> = LeftOpen(0.0, f64::MAX);

impl<T: PartialOrd> Interval<T> {
    /// Whether a value lies in it; NaN lies in none.
    pub fn contains(&self, value: &T) -> bool {
        match self {
            Closed(low, high) => low <= value && value <= high,
            RightOpen(low, high) => low <= value && value < high,
            LeftOpen(low, high) => low < value && value <= high,
            Open(low, high) => low < value && value < high,
        }
    }
}

impl<T: PartialOrd + Display> Interval<T> {
    /// Fails unless a value lies in it.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub fn require(&self, key: &str, value: T) -> Result<()> {
        require(self.contains(&value), key, value, self)
    }
}

impl<T> From<RangeInclusive<T>> for Interval<T> {
    fn from(range: RangeInclusive<T>) -> Self {
        let (low, high) = range.into_inner();
        Closed(low, high)
    }
}

impl<T: Display> Display for Interval<T> {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Closed(low, high) => write!(to, "{low} to {high}"),
            RightOpen(low, high) => write!(to, "{low} or more, below {high}"),
            LeftOpen(low, high) => write!(to, "above {low}, {high} at most"),
            Open(low, high) => write!(to, "above {low}, below {high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_it_as_the_words_say() {
        let cases = [
            (Closed(0.0, 1.0), "0 to 1", [true, true]),
            (RightOpen(0.0, 1.0), "0 or more, below 1", [true, false]),
            (LeftOpen(0.0, 1.0), "above 0, 1 at most", [false, true]),
            (Open(0.0, 1.0), "above 0, below 1", [false, false]),
        ];
        for (interval, words, bounds) in cases {
            assert_eq!(interval.to_string(), words);
            assert_eq!([0.0, 1.0].map(|v| interval.contains(&v)), bounds, "{words}");
            assert_eq!(
                [-0.1, 0.5, 1.1, f64::NAN].map(|v| interval.contains(&v)),
                [false, true, false, false],
                "{words}"
            );
        }
    }
}
