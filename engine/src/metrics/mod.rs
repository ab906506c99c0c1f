//! Metrics of image anomaly detection. All are exact; what cannot be computed is `None`.

pub mod overlap;
pub mod ranking;
pub mod region;
