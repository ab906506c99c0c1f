//! Anomaly maps and ground truth drawn over images.

use hotad_engine::calibration::Calibration;
use hotad_engine::data::picture::{Mask, Picture};
use hotad_models::AnomalyMap;

/// Of what exceeds the threshold.
const RED: [f32; 3] = [1.0, 0.0, 0.0];
/// Of the ground truth; no colour of a map.
const CYAN: [f32; 3] = [0.0, 1.0, 1.0];

/// Colour of a map value where 0.5 is the threshold: blue over green and yellow to red.
fn heat(v: f32) -> [f32; 3] {
    const STOPS: [[f32; 3]; 5] =
        [[0.05, 0.05, 0.35], [0.0, 0.45, 0.75], [0.2, 0.75, 0.35], [0.98, 0.8, 0.1], [0.85, 0.1, 0.1]];
    let at = v.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let low = (at as usize).min(STOPS.len() - 2);
    let part = at - low as f32;
    std::array::from_fn(|k| STOPS[low][k] * (1.0 - part) + STOPS[low + 1][k] * part)
}

/// Flags of the pixels up to `reach` above, below and beside one; `None` beyond the border.
fn around(flags: &[bool], (h, w): (usize, usize), at: usize, reach: usize) -> impl Iterator<Item = Option<bool>> + '_ {
    let (y, x) = ((at / w) as isize, (at % w) as isize);
    (1..=reach as isize).flat_map(move |d| [(0, d), (d, 0), (0, -d), (-d, 0)]).map(move |(dy, dx)| {
        let (ny, nx) = (y + dy, x + dx);
        let within = ny >= 0 && nx >= 0 && ny < h as isize && nx < w as isize;
        within.then(|| flags[ny as usize * w + nx as usize])
    })
}

/// Lays a colour over a pixel.
fn lay(picture: &mut Picture, at: usize, colour: [f32; 3], weight: f32) {
    let pixel = &mut picture.values[at * 3..at * 3 + 3];
    pixel.iter_mut().zip(colour).for_each(|(p, c)| *p = *p * (1.0 - weight) + c * weight);
}

/// The image with its anomaly map laid over, and the outline of what exceeds the pixel threshold in red.
pub fn overlay(image: Picture, map: &AnomalyMap, calibration: &Calibration) -> Picture {
    let mut picture = image.with_channels(3);
    let size = (picture.height, picture.width);
    let hit: Vec<bool> = map.values.iter().map(|v| *v > calibration.pixel_threshold).collect();
    for (at, value) in map.values.iter().enumerate() {
        let edge = hit[at] && around(&hit, size, at, 1).any(|flag| flag != Some(true));
        let v = calibration.pictured(*value);
        let (colour, weight) = if edge { (RED, 1.0) } else { (heat(v), 0.6 * v) };
        lay(&mut picture, at, colour, weight);
    }
    picture
}

/// The image with a line of `width` pixels in cyan around its defects.
pub fn outlined(image: Picture, truth: &Mask, width: usize) -> Picture {
    let mut picture = image.with_channels(3);
    let size = (picture.height, picture.width);
    for at in (0..truth.defect.len()).filter(|at| !truth.defect[*at]) {
        if around(&truth.defect, size, at, width).any(|flag| flag == Some(true)) {
            lay(&mut picture, at, CYAN, 1.0);
        }
    }
    picture
}
