//! What a layer's device makes of its inputs: rounded to fewer bits, or their range noted for int8.

use std::sync::Arc;

use hotad_engine::Result;
use hotad_engine::device::{Device, InputRange, InputRanges, Rounding};
use hotad_engine::tensor::Tensor;
use hotad_kernels::KernelError;
use sha2::{Digest, Sha256};

/// Bytes of the digest that tell layers of one name apart.
const TOLD_APART: usize = 4;

/// The inputs of one layer.
#[derive(Default)]
pub struct Inputs {
    /// How they are rounded.
    pub rounding: Rounding,
    /// Where their range is noted, and under which name.
    noted: Option<(Arc<InputRanges>, String)>,
    /// Why the layer cannot be run: for int8 its range has not been measured, as those of layers that scoring never runs.
    missing: Option<KernelError>,
}

impl Inputs {
    /// Of the layer `name` with these weights.
    pub fn new(device: &Device, name: &str, weight: &[f32]) -> Self {
        let Some(cpu) = device.cpu() else { return Self::default() };
        // Names of layers without ranges are not asked for.
        let key = if cpu.has_ranges() { key(name, weight) } else { name.into() };
        let (rounding, missing) = match cpu.rounding(&key) {
            Ok(rounding) => (rounding, None),
            Err(error) => (Rounding::None, Some(error)),
        };
        Self { rounding, noted: cpu.observed().map(|ranges| (ranges.clone(), key)), missing }
    }

    /// Fails for int8, when their range has not been measured.
    ///
    /// # Errors
    /// Says how it is measured.
    pub fn check(&self) -> Result<()> {
        self.missing.clone().map_or(Ok(()), |missing| Err(missing.into()))
    }

    /// Notes the range of a masked input, which is seen with channels of zeros and ones.
    ///
    /// # Errors
    /// As [`Inputs::check`].
    pub fn note_masked(&self, x: &Tensor) -> Result<()> {
        if let (Some((ranges, key)), Ok(range)) = (&self.noted, InputRange::new(0.0, 1.0)) {
            ranges.widen(key, range);
        }
        self.note(x)
    }

    /// Notes the range of an input. One that is not finite is left out; the check of the scores reports it.
    ///
    /// # Errors
    /// As [`Inputs::check`].
    pub fn note(&self, x: &Tensor) -> Result<()> {
        self.check()?;
        if let Some((ranges, key)) = &self.noted
            && let Ok(range) = InputRange::of(&x.values()?)
        {
            ranges.widen(key, range);
        }
        Ok(())
    }
}

/// A layer's name among ranges: the networks of a model may have layers of one name, which their weights tell apart.
fn key(name: &str, weight: &[f32]) -> String {
    let mut hash = Sha256::new();
    weight.iter().for_each(|w| hash.update(w.to_le_bytes()));
    let digest: String = hash.finalize().iter().take(TOLD_APART).map(|b| format!("{b:02x}")).collect();
    format!("{name}@{digest}")
}
