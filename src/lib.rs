//! hotad in a process: frames in memory become verdicts.
//!
//! An [`Inspector`] is a trained model that has been opened once. It takes a borrowed [`Frame`], in the format of the camera, and
//! fills a [`Verdict`]: score, label, regions, map. On the CPU scores are those of `hotad score`, to the bit.
//!
//! ```
//! use hotad::{Format, Frame, Inspector, Label, Options, Verdict};
//!
//! # fn main() -> hotad::Result<()> {
//! let mut inspector = Inspector::open("weights/plate.safetensors".as_ref(), Options::default())?;
//! inspector.warm_up(256, 320, Format::Bgr8)?;
//! let pixels = vec![0; 256 * 320 * 3]; // the camera's buffer
//! let mut verdict = Verdict::default();
//! inspector.inspect(&Frame::new(&pixels, 256, 320, 320 * 3, Format::Bgr8)?, &mut verdict)?;
//! assert_eq!(verdict.label, Label::Anomaly); // black is no plate
//! # Ok(())
//! # }
//! ```
//!
//! Training, calibrating and evaluating are in [`jobs`].

#![forbid(unsafe_code)]

mod enlarger;
mod inspector;
mod options;
mod regions;
mod thresholds;
mod verdict;

pub use hotad_engine::calibration::Calibration;
pub use hotad_engine::data::OnBroken;
pub use hotad_engine::data::corrupt::{Corrupt, Corruption};
pub use hotad_engine::data::frame::{Format, Frame, Strides};
pub use hotad_engine::data::limits::Limits;
pub use hotad_engine::data::picture::ImageSpec;
pub use hotad_engine::data::roi::Roi;
pub use hotad_engine::device::{Device, DeviceName, Precision};
pub use hotad_engine::signature::PublicKey;
pub use hotad_engine::{Error, Result, interrupt, observer};
pub use hotad_models::jobs;
pub use inspector::{Info, Inspector};
pub use options::{MapSize, Options};
pub use thresholds::{Change, Thresholds, Values};
pub use verdict::{Label, Region, Stages, Verdict};
