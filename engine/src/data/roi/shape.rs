//! What a region is made of: boxes, polygons, runs of a mask.

use serde::{Deserialize, Serialize};

use super::rows::Span;
use super::{SIDE, refuse};
use crate::data::picture::Mask;
use crate::error::Result;

/// A box or a polygon, in pixels of the frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Shape {
    /// First column, first row, columns, rows.
    Box { left: u32, top: u32, width: u32, height: u32 },
    /// Column and row of each corner.
    Polygon(Vec<[f64; 2]>),
}

/// Lengths of alternating runs of pixels, row by row, the first outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    pub width: u32,
    pub height: u32,
    pub runs: Vec<u32>,
}

impl Shape {
    /// Fails for shapes without pixels, and for those that no frame is large enough for.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Box { width, height, .. } if *width == 0 || *height == 0 => {
                refuse(format!("a box of {width} x {height} pixels; it must have one at least"))
            }
            Self::Box { left, top, width, height } => {
                let (right, bottom) = (u64::from(*left) + u64::from(*width), u64::from(*top) + u64::from(*height));
                match right.max(bottom) > u64::from(SIDE) {
                    true => refuse(format!("a box that reaches to {right} x {bottom}; {SIDE} is the most")),
                    false => Ok(()),
                }
            }
            Self::Polygon(corners) if corners.len() < 3 => {
                refuse(format!("a polygon of {} corners; it must have three at least", corners.len()))
            }
            Self::Polygon(corners) => {
                let known = |v: &f64| (0.0..=f64::from(SIDE)).contains(v);
                match corners.iter().flatten().find(|v| !known(v)) {
                    Some(v) => refuse(format!("a polygon with the coordinate {v}; use 0 to {SIDE}")),
                    None => Ok(()),
                }
            }
        }
    }

    /// Corners; a box is given by two.
    pub fn corners(&self) -> usize {
        match self {
            Self::Box { .. } => 2,
            Self::Polygon(corners) => corners.len(),
        }
    }

    /// The first row that may have pixels, and the one after the last.
    pub fn rows(&self) -> (u32, u32) {
        match self {
            Self::Box { top, height, .. } => (*top, top + height),
            Self::Polygon(corners) => {
                let (low, high) =
                    corners.iter().fold((f64::from(SIDE), 0.0f64), |(a, b), [_, y]| (a.min(*y), b.max(*y)));
                (low as u32, high.ceil() as u32)
            }
        }
    }

    /// Adds the spans of row `y`.
    pub fn add_row(&self, y: u32, crossings: &mut Vec<f64>, spans: &mut Vec<Span>) {
        match self {
            Self::Box { left, top, width, height } if (*top..top + height).contains(&y) => {
                spans.push((*left, left + width));
            }
            Self::Box { .. } => {}
            Self::Polygon(corners) => polygon_row(corners, f64::from(y) + 0.5, crossings, spans),
        }
    }
}

/// Adds the spans of pixels whose centres lie inside by the even-odd rule, on the line of centres at `y`.
fn polygon_row(corners: &[[f64; 2]], y: f64, crossings: &mut Vec<f64>, spans: &mut Vec<Span>) {
    crossings.clear();
    for (i, [x1, y1]) in corners.iter().enumerate() {
        let [x0, y0] = corners[if i == 0 { corners.len() - 1 } else { i - 1 }];
        if (y0 > y) != (*y1 > y) {
            crossings.push((x0 - x1) * (y - y1) / (y0 - y1) + x1);
        }
    }
    crossings.sort_unstable_by(f64::total_cmp);
    // A centre at x + 0.5 lies inside from a crossing on, and up to the next one but not on it.
    let column = |crossing: f64| (crossing - 0.5).ceil().max(0.0) as u32;
    for (start, end) in crossings.as_chunks::<2>().0.iter().map(|[a, b]| (column(*a), column(*b))) {
        if start < end {
            spans.push((start, end));
        }
    }
}

impl Runs {
    /// The runs of a mask.
    pub fn of(mask: &Mask) -> Self {
        let mut runs = Vec::new();
        let mut rest = &mask.defect[..];
        for inside in [false, true].into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let length = rest.iter().position(|flag| *flag != inside).unwrap_or(rest.len());
            runs.push(length as u32);
            rest = &rest[length..];
        }
        Self { width: mask.width as u32, height: mask.height as u32, runs }
    }

    /// Fails for runs that are not those of a mask.
    pub fn check(&self) -> Result<()> {
        let sides = 1..=SIDE;
        if !sides.contains(&self.width) || !sides.contains(&self.height) {
            return refuse(format!("a mask of {} x {} pixels; sides are 1 to {SIDE}", self.width, self.height));
        }
        let (length, area) =
            (self.runs.iter().map(|n| u64::from(*n)).sum::<u64>(), u64::from(self.width) * u64::from(self.height));
        if length != area || self.runs.iter().skip(1).any(|n| *n == 0) {
            return refuse(format!("a mask of {area} pixels whose runs have {length}, or an empty run"));
        }
        Ok(())
    }
}
