//! Settings of PatchCore.

use hotad_engine::Result;
use serde::{Deserialize, Serialize};

use crate::config::{Doc, Settings, join, require};
use crate::features::FeatureSettings;
use crate::prior::BankType;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Most elements of a patch's vector.
    pub dimensions: usize,
    /// Share of the patches that the bank keeps, or their number from 1 on.
    pub coreset: f64,
    /// Milliseconds that scoring one image may take; 0 for no limit. Chooses the size of the bank.
    pub max_latency_ms: f64,
    /// Mebibytes of patches that are held at most while the bank is built.
    pub reservoir: f64,
    /// Dimensions that distances are measured in while the coreset is chosen.
    pub projection: usize,
    /// Bank vectors that the image score is weighted with.
    pub neighbours: usize,
    /// Blur of the anomaly map.
    pub blur: f64,
    /// Precision of the bank in the file.
    pub bank: BankType,
    /// Where features come from.
    #[serde(flatten)]
    pub features: FeatureSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dimensions: 1024,
            coreset: 0.1,
            max_latency_ms: 0.0,
            reservoir: 512.0,
            projection: 128,
            neighbours: 1,
            blur: 4.0,
            bank: BankType::F16,
            features: FeatureSettings::default(),
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &join::<8, 6, 14>(
        [
            (
                "dimensions",
                "most elements of a patch's vector; more are averaged in groups of neighbours (paper: 1024)",
            ),
            ("coreset", "share of the patches that the bank keeps (paper: 0.1 or 0.01), or their number from 1 on"),
            (
                "max_latency_ms",
                "milliseconds that scoring one image may take on this machine; the bank is made as large as that allows, whatever coreset says; 0: no limit",
            ),
            (
                "reservoir",
                "mebibytes of patches held at most while the bank is built; where all take more, they are drawn evenly",
            ),
            ("projection", "dimensions that distances are measured in while the coreset is chosen"),
            (
                "neighbours",
                "bank vectors that the image score is weighted with (paper: 9); 1 for the largest distance as it is",
            ),
            ("blur", "deviation of the blur of the anomaly map, in pixels; 0 for none"),
            ("bank", "\"f16\" or \"f32\": precision of the memory bank in the model file"),
        ],
        FeatureSettings::DOCS,
    );

    fn check(&self) -> Result<()> {
        require((8..=8192).contains(&self.dimensions), "dimensions", self.dimensions, "8 to 8192")?;
        let count = self.coreset >= 1.0 && self.coreset.fract() == 0.0 && self.coreset <= 1e7;
        let share = self.coreset > 0.0 && self.coreset < 1.0;
        require(share || count, "coreset", self.coreset, "a share above 0 and below 1, or a whole number")?;
        let latency = self.max_latency_ms;
        require(
            latency == 0.0 || (0.01..=60_000.0).contains(&latency),
            "max_latency_ms",
            latency,
            "0, or 0.01 to 60000",
        )?;
        require((0.01..=1e6).contains(&self.reservoir), "reservoir", self.reservoir, "0.01 to 1000000")?;
        require((8..=1024).contains(&self.projection), "projection", self.projection, "8 to 1024")?;
        require((1..=100).contains(&self.neighbours), "neighbours", self.neighbours, "1 to 100")?;
        require((0.0..=20.0).contains(&self.blur), "blur", self.blur, "0 to 20")?;
        self.features.check()
    }
}

impl Config {
    /// Most vectors of `d` elements that are held while the bank is built, at least one.
    pub(super) fn held(&self, d: usize) -> usize {
        ((self.reservoir * f64::from(1 << 20)) as usize / (d * size_of::<f32>())).max(1)
    }

    /// Vectors that the bank keeps of some.
    pub(super) fn kept(&self, of: usize) -> usize {
        let wanted = if self.coreset < 1.0 { (of as f64 * self.coreset).round() } else { self.coreset };
        (wanted as usize).clamp(1, of)
    }
}
