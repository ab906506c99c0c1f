//! The CPU as a device: what the operands of prepared convolutions are rounded to there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Precision;
use crate::error::{KernelError, Result, device_error};

/// The smallest and the largest input of a layer, widened to hold 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InputRange {
    least: f32,
    most: f32,
}

impl InputRange {
    /// From the smallest to the largest of some inputs.
    ///
    /// # Errors
    /// When one is not finite.
    pub fn new(least: f32, most: f32) -> Result<Self> {
        if !(least.is_finite() && most.is_finite() && least <= most) {
            return device_error(format!("int8: inputs from {least} to {most} are no finite range"));
        }
        Ok(Self { least: least.min(0.0), most: most.max(0.0) })
    }

    /// That of some inputs.
    ///
    /// # Errors
    /// When one is not finite.
    pub fn of(inputs: &[f32]) -> Result<Self> {
        if let Some(value) = inputs.iter().find(|v| !v.is_finite()) {
            return Self::new(*value, *value);
        }
        let (least, most) = inputs.iter().fold((0.0, 0.0), |(least, most), v| (v.min(least), v.max(most)));
        Self::new(least, most)
    }

    /// The range of both.
    pub fn union(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// Smallest and largest input.
    pub fn ends(self) -> (f32, f32) {
        (self.least, self.most)
    }
}

/// Ranges of inputs by layer.
#[derive(Debug, Default)]
pub struct InputRanges(Mutex<BTreeMap<String, InputRange>>);

impl InputRanges {
    /// Of these layers.
    pub fn new(ranges: BTreeMap<String, InputRange>) -> Self {
        Self(Mutex::new(ranges))
    }

    /// That of a layer.
    pub fn get(&self, layer: &str) -> Option<InputRange> {
        self.lock().get(layer).copied()
    }

    /// Widens that of a layer to hold another one.
    pub fn widen(&self, layer: &str, range: InputRange) {
        let mut ranges = self.lock();
        let known = ranges.get(layer).map_or(range, |known| known.union(range));
        ranges.insert(layer.into(), known);
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, InputRange> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, InputRange>> {
        // A poisoned lock only says that another thread has panicked; ranges are changed in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the operands of a prepared convolution on the CPU are rounded to before they are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rounding {
    /// f32: not at all.
    #[default]
    None,
    /// bf16: to 7 bits of mantissa.
    Bf16,
    /// int8: to bytes; inputs beyond the range are clamped.
    Int8(InputRange),
}

/// The CPU in one of its precisions: f32, bf16 or int8.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    precision: Precision,
    /// Of int8: the ranges that it takes. Of f32: where they are noted, when they are.
    ranges: Option<Arc<InputRanges>>,
}

impl Cpu {
    /// In f32.
    pub const F32: Self = Self { precision: Precision::F32, ranges: None };

    /// # Errors
    /// When the CPU does not multiply in it.
    pub(super) fn new(precision: Precision) -> Result<Self> {
        match precision {
            Precision::F32 | Precision::Bf16 | Precision::Int8 => Ok(Self { precision, ranges: None }),
            Precision::Tf32 | Precision::F16 => {
                device_error(format!("cpu: precision {} is for GPUs; use f32, bf16 or int8", precision.name()))
            }
        }
    }

    /// What it multiplies in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// In f32, with the inputs of prepared convolutions noted.
    pub fn observing() -> Self {
        Self { precision: Precision::F32, ranges: Some(Arc::default()) }
    }

    /// In the same precision, with ranges that int8 takes.
    pub fn with_ranges(&self, ranges: InputRanges) -> Self {
        Self { ranges: Some(Arc::new(ranges)), ..self.clone() }
    }

    /// Whether ranges are noted, or taken.
    pub fn has_ranges(&self) -> bool {
        self.ranges.is_some()
    }

    /// Where ranges are noted, if they are.
    pub fn observed(&self) -> Option<&Arc<InputRanges>> {
        self.ranges.as_ref().filter(|_| self.precision == Precision::F32)
    }

    /// How the operands of a layer are rounded.
    ///
    /// # Errors
    /// For int8, when the layer has no range.
    pub fn rounding(&self, layer: &str) -> Result<Rounding> {
        match self.precision {
            Precision::Bf16 => Ok(Rounding::Bf16),
            Precision::Int8 => match self.ranges.as_ref().and_then(|ranges| ranges.get(layer)) {
                Some(range) => Ok(Rounding::Int8(range)),
                None => Err(KernelError::NoRange(layer.into())),
            },
            _ => Ok(Rounding::None),
        }
    }
}
