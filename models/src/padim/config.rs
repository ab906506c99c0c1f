//! Settings of PaDiM.

use hotad_engine::Result;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::{Choice, Doc, Settings, join, require};
use crate::features::FeatureSettings;
use crate::prior::BankType;

/// Side of the neighbourhood unless a setting says otherwise.
const NEIGHBOURHOOD: usize = 1;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels that are kept, drawn at random; 0 for all.
    pub dimensions: usize,
    /// Weight of the covariance's own mean variance.
    pub shrinkage: Choice,
    /// What is added to every variance.
    pub eps: Choice,
    /// Most memory of the covariances while they are summed, in MiB.
    pub memory: usize,
    /// Blur of the anomaly map.
    pub blur: f64,
    /// Precision of the factors in the file.
    pub factors: BankType,
    /// Where features come from.
    #[serde(flatten)]
    pub features: FeatureSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dimensions: 160,
            shrinkage: Choice::Word("auto".into()),
            eps: Choice::Word("auto".into()),
            memory: 2048,
            blur: 4.0,
            factors: BankType::F16,
            features: FeatureSettings { neighbourhood: NEIGHBOURHOOD, ..FeatureSettings::default() },
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &join::<6, 6, 12>(
        [
            (
                "dimensions",
                "channels that are kept, drawn at random where there are more (paper: 100 of ResNet-18's, 550 of Wide ResNet-50-2's); 0 for all",
            ),
            (
                "shrinkage",
                "how far each covariance is moved towards a multiple of the identity: 0 (paper) to 1, or \"auto\" (oracle approximating shrinkage, location by location)",
            ),
            (
                "eps",
                "added to every variance (paper: 0.01), or \"auto\": 0.01 of the mean variance of all locations and channels",
            ),
            ("memory", "most memory of the covariances while they are summed, in MiB"),
            ("blur", "deviation of the blur of the anomaly map, in pixels; 0 for none (paper: 4)"),
            ("factors", "\"f16\" or \"f32\": precision of the inverse covariances, in memory and in the model file"),
        ],
        FeatureSettings::DOCS,
    );

    fn check(&self) -> Result<()> {
        let kept = self.dimensions;
        require(kept == 0 || (8..=4096).contains(&kept), "dimensions", kept, "0, or 8 to 4096")?;
        self.shrinkage.check("shrinkage", "\"auto\" or 0 to 1", |v| (0.0..=1.0).contains(&v))?;
        self.eps.check("eps", "\"auto\" or a number above 0", |v| v > 0.0 && v.is_finite())?;
        require((1..=1_048_576).contains(&self.memory), "memory", self.memory, "1 to 1048576")?;
        require((0.0..=20.0).contains(&self.blur), "blur", self.blur, "0 to 20")?;
        self.features.check()
    }

    fn under(_: &Table) -> Result<Table> {
        Ok(Table::from_iter([("neighbourhood".into(), Value::Integer(NEIGHBOURHOOD as i64))]))
    }
}
