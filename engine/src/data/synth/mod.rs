//! Synthetic defects with exact masks on real normal images.
//!
//! The paper of PAEDID (section 3) evaluates on cracks drawn over normal images; so do `hotad synth` and the choice of lambda.
//! Pixel thresholds are chosen on all kinds. A drawn pixel belongs to the mask when it changed visibly, that is by at least
//! [`VISIBLE`] in some channel: a crack across black shows nothing there.

mod canvas;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::picture::{Mask, Picture};
use canvas::Canvas;

/// Smallest change of a value in 0..1 that counts as visible (five of 255 levels).
pub const VISIBLE: f32 = 5.0 / 255.0;

/// Kinds of synthetic defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A dark, jagged line with a branch.
    Crack,
    /// A bright, straight line.
    Scratch,
    /// A dark or bright ellipse.
    Spot,
    /// A large, soft change of brightness.
    Stain,
    /// A piece of the image at a wrong place.
    Misplaced,
    /// A piece that has lost its sharpness.
    Smear,
}

impl Kind {
    /// All of them, and their names.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Crack, "crack"),
        (Self::Scratch, "scratch"),
        (Self::Spot, "spot"),
        (Self::Stain, "stain"),
        (Self::Misplaced, "misplaced"),
        (Self::Smear, "smear"),
    ];
}

/// Draws one defect at full contrast; see [`draw_faint`].
pub fn draw(kind: Kind, normal: &Picture, rng: &mut ChaCha8Rng) -> (Picture, Mask) {
    draw_faint(kind, normal, 1.0, rng)
}

/// Draws one defect of which the share `opacity` (above 0, 1 at most) is to be seen; returns the changed picture and its mask,
/// which is never empty unless the picture shows no contrast to the defect anywhere it was tried.
pub fn draw_faint(kind: Kind, normal: &Picture, opacity: f32, rng: &mut ChaCha8Rng) -> (Picture, Mask) {
    const TRIES: usize = 8;
    let mut result = draw_once(kind, normal, opacity, rng);
    for _ in 1..TRIES {
        if result.1.defect.contains(&true) {
            break;
        }
        result = draw_once(kind, normal, opacity, rng);
    }
    result
}

fn draw_once(kind: Kind, normal: &Picture, opacity: f32, rng: &mut ChaCha8Rng) -> (Picture, Mask) {
    let mut canvas = Canvas::new(normal.height, normal.width);
    let change = match kind {
        Kind::Crack => crack(&mut canvas, rng),
        Kind::Scratch => scratch(&mut canvas, rng),
        Kind::Spot => spot(&mut canvas, rng),
        Kind::Stain => stain(&mut canvas, rng),
        Kind::Misplaced => misplaced(&mut canvas, rng),
        Kind::Smear => smear(&mut canvas, rng),
    };
    paint(&canvas, normal, change, opacity)
}

fn crack(canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Change {
    let scale = canvas.scale();
    let start = canvas.point(rng);
    let heading = rng.random_range(0.0..std::f32::consts::TAU);
    let thickness = scale * rng.random_range(0.012..0.03);
    let length = scale * rng.random_range(0.35..0.8);
    let bend = canvas.crack(start, heading, length, thickness, rng);
    let turn = if rng.random::<bool>() { 0.7 } else { -0.7 };
    canvas.crack(bend, heading + turn, 0.4 * length, 0.7 * thickness, rng);
    Change::Darken(rng.random_range(0.05..0.3))
}

fn scratch(canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Change {
    let scale = canvas.scale();
    let (start, heading) = (canvas.point(rng), rng.random_range(0.0..std::f32::consts::TAU));
    let length = scale * rng.random_range(0.2..0.6);
    let end = (start.0 + length * heading.cos(), start.1 + length * heading.sin());
    canvas.stroke(start, end, scale * rng.random_range(0.008..0.016));
    Change::Brighten(rng.random_range(0.05..0.3))
}

/// Semi-axes between two shares of the shorter side.
fn axes(canvas: &Canvas, range: std::ops::Range<f32>, rng: &mut ChaCha8Rng) -> (f32, f32) {
    (canvas.scale() * rng.random_range(range.clone()), canvas.scale() * rng.random_range(range))
}

fn spot(canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Change {
    let axes = axes(canvas, 0.03..0.1, rng);
    canvas.ellipse(canvas.point(rng), axes, rng.random_range(0.0..std::f32::consts::PI));
    let rest = rng.random_range(0.1..0.4);
    if rng.random::<bool>() { Change::Darken(rest) } else { Change::Brighten(rest) }
}

fn stain(canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Change {
    let axes = axes(canvas, 0.12..0.35, rng);
    canvas.soft_ellipse(canvas.point(rng), axes, rng.random_range(0.0..std::f32::consts::PI));
    let rest = rng.random_range(0.5..0.8);
    if rng.random::<bool>() { Change::Darken(rest) } else { Change::Brighten(rest) }
}

fn misplaced(canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Change {
    let axes = axes(canvas, 0.04..0.15, rng);
    canvas.ellipse(canvas.point(rng), axes, rng.random_range(0.0..std::f32::consts::PI));
    let heading = rng.random_range(0.0..std::f32::consts::TAU);
    let far = canvas.scale() * rng.random_range(0.2..0.5);
    Change::Shift((far * heading.cos()) as isize, (far * heading.sin()) as isize)
}

fn smear(canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Change {
    let axes = axes(canvas, 0.06..0.2, rng);
    canvas.ellipse(canvas.point(rng), axes, rng.random_range(0.0..std::f32::consts::PI));
    Change::Mean((canvas.scale() * rng.random_range(0.015..0.04)).max(1.0) as isize)
}

/// What happens to the pixels that are hit.
#[derive(Clone, Copy)]
enum Change {
    /// Multiplied by this.
    Darken(f32),
    /// The distance to white is multiplied by this.
    Brighten(f32),
    /// The pixel so many rows and columns away, the picture repeated mirrored.
    Shift(isize, isize),
    /// The mean of the square of pixels that are at most so far away.
    Mean(isize),
}

impl Change {
    /// The new value of a pixel's channel.
    fn of(self, picture: &Picture, (y, x): (usize, usize), channel: usize) -> f32 {
        let at = |dy: isize, dx: isize| {
            let (row, col) = (mirrored(y as isize + dy, picture.height), mirrored(x as isize + dx, picture.width));
            picture.values[(row * picture.width + col) * picture.channels + channel]
        };
        match self {
            Self::Darken(rest) => at(0, 0) * rest,
            Self::Brighten(rest) => 1.0 - (1.0 - at(0, 0)) * rest,
            Self::Shift(dy, dx) => at(dy, dx),
            Self::Mean(r) => {
                let sum: f32 =
                    (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dy, dx))).map(|(dy, dx)| at(dy, dx)).sum();
                sum / ((2 * r + 1) * (2 * r + 1)) as f32
            }
        }
    }
}

/// An index brought into 0..n by mirroring at the edges, which are not repeated.
fn mirrored(i: isize, n: usize) -> usize {
    let last = n as isize - 1;
    if last == 0 {
        return 0;
    }
    let i = i.rem_euclid(2 * last);
    i.min(2 * last - i) as usize
}

/// The picture with its hit pixels changed, and those that changed visibly.
fn paint(canvas: &Canvas, normal: &Picture, change: Change, opacity: f32) -> (Picture, Mask) {
    let mut picture = normal.clone();
    let mut defect = vec![false; canvas.share.len()];
    let pixels = picture.values.chunks_exact_mut(normal.channels);
    for (i, (pixel, share)) in pixels.zip(&canvas.share).enumerate().filter(|(_, (_, share))| **share > 0.0) {
        for (channel, value) in pixel.iter_mut().enumerate() {
            let full = change.of(normal, (i / normal.width, i % normal.width), channel);
            let part = share * opacity;
            let new = if part == 1.0 { full } else { *value + part * (full - *value) };
            defect[i] |= (new - *value).abs() >= VISIBLE;
            *value = new;
        }
    }
    (picture, Mask { height: normal.height, width: normal.width, defect })
}
