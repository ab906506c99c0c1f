//! Settings of PaDiM.

use crate::config::{BLUR, BankType, Choice, POSITIVE, SHARE, Settings, settings};
use crate::features::{Augmentation, FeatureSettings};

settings! {
    /// Settings.
    pub struct Config {
        /// channels that are kept, drawn at random where there are more (paper: 100 of ResNet-18's, 550 of Wide ResNet-50-2's);
        /// 0 for all
        dimensions: usize = 160, allowed "0, or 8 to 4096" if |v| *v == 0 || (8..=4096).contains(v);
        /// how far each covariance is moved towards a multiple of the identity: 0 (paper) to 1, or "auto" (oracle approximating
        /// shrinkage, location by location)
        shrinkage: Choice = Choice::auto(), allowed "\"auto\" or 0 to 1" if |v| v.is_auto_or(SHARE);
        /// added to every variance (paper: 0.01), or "auto": 0.01 of the mean variance of all locations and channels
        eps: Choice = Choice::auto(), allowed "\"auto\" or a number above 0" if |v| v.is_auto_or(POSITIVE);
        /// most memory of the covariances while they are summed, in MiB
        memory: usize = 2048, in 1..=1_048_576;
        /// deviation of the blur of the anomaly map, in pixels; 0 for none (paper: 4)
        blur: f64 = 4.0, in BLUR;
        /// "f16" or "f32": precision of the inverse covariances, in memory and in the model file
        factors: BankType = BankType::F16;
        ..augmentation: Augmentation = Augmentation::default();
        ..features: FeatureSettings = FeatureSettings { neighbourhood: 1, ..FeatureSettings::default() };
    }
}

impl Settings for Config {}
