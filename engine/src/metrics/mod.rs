//! Metrics of image anomaly detection. All are exact, but for [`tally`] beyond its limit; what cannot be computed is `None`.

pub mod bootstrap;
mod buckets;
pub mod overlap;
pub mod ranking;
pub mod region;
pub mod sketch;
pub mod tally;
