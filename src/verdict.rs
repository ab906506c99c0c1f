//! What an inspection says.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What is decided of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The score is not above the image threshold.
    Normal,
    /// It is.
    Anomaly,
    /// Not inspected, or not before the deadline.
    #[default]
    Undecided,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Anomaly => "anomaly",
            Self::Undecided => "undecided",
        })
    }
}

/// A connected component (under 8-connectivity) of the map's pixels above the pixel threshold, in pixels of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Region {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Pixels.
    pub area: f32,
    /// Column of the centre of its pixels, the middle of the first column being 0.5.
    pub center_x: f32,
    /// Row of it.
    pub center_y: f32,
    /// Largest value of the map within.
    pub peak: f32,
    /// Column of that value.
    pub peak_x: u32,
    /// Row of it.
    pub peak_y: u32,
}

/// How long the stages of an inspection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From the arrival of the frame to the start of its inspection.
    pub wait: Duration,
    /// Format, size and range of its values, for the model.
    pub preprocess: Duration,
    /// The model; on a GPU with the transfers there and back.
    pub score: Duration,
    /// Label, regions, map.
    pub verdict: Duration,
}

impl Stages {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.wait + self.preprocess + self.score + self.verdict
    }
}

/// What an inspection says. One that is used again keeps its memory.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Larger is more anomalous. NaN where the frame was not inspected.
    pub score: f32,
    /// The score on a scale from 0 to 1 that is 0.5 at the threshold. NaN where the frame was not inspected.
    pub calibrated: f32,
    /// What is decided.
    pub label: Label,
    /// The image threshold that the score was compared with.
    pub image_threshold: f32,
    /// The pixel threshold that the regions lie above.
    pub pixel_threshold: f32,
    /// The regions, those with the highest peaks first, at most [`Options::regions`](crate::Options::regions).
    pub regions: Vec<Region>,
    /// The anomaly map, row by row, where [`Options::map`](crate::Options::map) asks for it; else empty.
    pub map: Vec<f32>,
    /// Rows and columns of `map`.
    pub map_size: (usize, usize),
    /// Whether the verdict came after the deadline, or the frame was not inspected because it could not come before.
    pub late: bool,
    /// For a method that iterates and was stopped by the deadline: iterations done.
    pub stopped_after: Option<u32>,
    /// Where the time went.
    pub stages: Stages,
}

impl Default for Verdict {
    fn default() -> Self {
        Self {
            score: f32::NAN,
            calibrated: f32::NAN,
            label: Label::Undecided,
            image_threshold: f32::NAN,
            pixel_threshold: f32::NAN,
            regions: Vec::new(),
            map: Vec::new(),
            map_size: (0, 0),
            late: false,
            stopped_after: None,
            stages: Stages::default(),
        }
    }
}

impl Verdict {
    /// As [`Verdict::default`], the memory kept.
    pub(crate) fn clear(&mut self) {
        let (mut regions, mut map) = (std::mem::take(&mut self.regions), std::mem::take(&mut self.map));
        regions.clear();
        map.clear();
        *self = Self { regions, map, ..Self::default() };
    }
}
