//! Synthetic defects with exact masks on real normal images.
//!
//! The paper of PAEDID (section 3) evaluates on cracks drawn over normal images; so do `hotad
//! synth` and the choice of lambda. A drawn pixel belongs to the mask when it changed visibly, that
//! is by at least [`VISIBLE`] in some channel: a crack across black shows nothing there.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::picture::{Mask, Picture};

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
}

/// Draws one defect; returns the changed picture and its mask, which is never empty unless the
/// picture shows no contrast to the defect anywhere it was tried.
pub fn draw(kind: Kind, normal: &Picture, rng: &mut ChaCha8Rng) -> (Picture, Mask) {
    const TRIES: usize = 8;
    let mut result = draw_once(kind, normal, rng);
    for _ in 1..TRIES {
        if result.1.defect.contains(&true) {
            break;
        }
        result = draw_once(kind, normal, rng);
    }
    result
}

fn draw_once(kind: Kind, normal: &Picture, rng: &mut ChaCha8Rng) -> (Picture, Mask) {
    let mut canvas =
        Canvas { height: normal.height, width: normal.width, hit: vec![false; normal.height * normal.width] };
    let scale = normal.height.min(normal.width) as f32;
    let tone = match kind {
        Kind::Crack => {
            let start = canvas.point(rng);
            let heading = rng.random_range(0.0..std::f32::consts::TAU);
            let thickness = scale * rng.random_range(0.012..0.03);
            let length = scale * rng.random_range(0.35..0.8);
            let bend = canvas.crack(start, heading, length, thickness, rng);
            let turn = if rng.random::<bool>() { 0.7 } else { -0.7 };
            canvas.crack(bend, heading + turn, 0.4 * length, 0.7 * thickness, rng);
            Tone::Darken(rng.random_range(0.05..0.3))
        }
        Kind::Scratch => {
            let (start, heading) = (canvas.point(rng), rng.random_range(0.0..std::f32::consts::TAU));
            let length = scale * rng.random_range(0.2..0.6);
            let end = (start.0 + length * heading.cos(), start.1 + length * heading.sin());
            canvas.stroke(start, end, scale * rng.random_range(0.008..0.016));
            Tone::Brighten(rng.random_range(0.05..0.3))
        }
        Kind::Spot => {
            let (a, b) = (scale * rng.random_range(0.03..0.1), scale * rng.random_range(0.03..0.1));
            canvas.ellipse(canvas.point(rng), (a, b), rng.random_range(0.0..std::f32::consts::PI));
            let rest = rng.random_range(0.1..0.4);
            if rng.random::<bool>() { Tone::Darken(rest) } else { Tone::Brighten(rest) }
        }
    };
    canvas.paint(normal, tone)
}

/// What happens to the pixels that were hit.
#[derive(Clone, Copy)]
enum Tone {
    /// Multiplied by this.
    Darken(f32),
    /// The distance to white is multiplied by this.
    Brighten(f32),
}

/// Which pixels are hit.
struct Canvas {
    height: usize,
    width: usize,
    hit: Vec<bool>,
}

impl Canvas {
    /// A point in the middle three quarters of the image: row, column.
    fn point(&self, rng: &mut ChaCha8Rng) -> (f32, f32) {
        let (h, w) = (self.height as f32, self.width as f32);
        (h * rng.random_range(0.125..0.875), w * rng.random_range(0.125..0.875))
    }

    /// A jagged line of short strokes that drift in direction; returns its middle.
    fn crack(
        &mut self,
        start: (f32, f32),
        heading: f32,
        length: f32,
        thickness: f32,
        rng: &mut ChaCha8Rng,
    ) -> (f32, f32) {
        const STROKES: usize = 12;
        let (mut at, mut middle) = (start, start);
        for i in 0..STROKES {
            let angle = heading + rng.random_range(-0.6..0.6);
            let step = length / STROKES as f32;
            let next = (at.0 + step * angle.cos(), at.1 + step * angle.sin());
            self.stroke(at, next, thickness * rng.random_range(0.6..1.0));
            at = next;
            if i == STROKES / 2 {
                middle = at;
            }
        }
        middle
    }

    /// All pixels within half a thickness (at least 0.7 pixels) of a segment.
    fn stroke(&mut self, a: (f32, f32), b: (f32, f32), thickness: f32) {
        let reach = (0.5 * thickness).max(0.7);
        let (dy, dx) = (b.0 - a.0, b.1 - a.1);
        let square = (dy * dy + dx * dx).max(1e-6);
        self.mark(
            (a.0.min(b.0) - reach, a.0.max(b.0) + reach),
            (a.1.min(b.1) - reach, a.1.max(b.1) + reach),
            |y, x| {
                let t = (((y - a.0) * dy + (x - a.1) * dx) / square).clamp(0.0, 1.0);
                let (ey, ex) = (y - a.0 - t * dy, x - a.1 - t * dx);
                ey * ey + ex * ex <= reach * reach
            },
        );
    }

    fn ellipse(&mut self, centre: (f32, f32), (a, b): (f32, f32), angle: f32) {
        let reach = a.max(b);
        self.mark((centre.0 - reach, centre.0 + reach), (centre.1 - reach, centre.1 + reach), |y, x| {
            let (ey, ex) = (y - centre.0, x - centre.1);
            let (u, v) = (ey * angle.cos() + ex * angle.sin(), ex * angle.cos() - ey * angle.sin());
            (u / a).powi(2) + (v / b).powi(2) <= 1.0
        });
    }

    /// Marks the pixels of a box whose centres satisfy `inside`.
    fn mark(&mut self, rows: (f32, f32), cols: (f32, f32), inside: impl Fn(f32, f32) -> bool) {
        let range = |(from, to): (f32, f32), n: usize| (from.max(0.0) as usize)..((to.max(0.0) as usize + 1).min(n));
        for y in range(rows, self.height) {
            for x in range(cols, self.width) {
                self.hit[y * self.width + x] |= inside(y as f32 + 0.5, x as f32 + 0.5);
            }
        }
    }

    fn paint(self, normal: &Picture, tone: Tone) -> (Picture, Mask) {
        let mut picture = normal.clone();
        let mut defect = vec![false; self.hit.len()];
        let pixels = picture.values.chunks_exact_mut(normal.channels);
        for ((pixel, _), defect) in pixels.zip(&self.hit).zip(&mut defect).filter(|((_, hit), _)| **hit) {
            for value in pixel {
                let new = match tone {
                    Tone::Darken(rest) => *value * rest,
                    Tone::Brighten(rest) => 1.0 - (1.0 - *value) * rest,
                };
                *defect |= (new - *value).abs() >= VISIBLE;
                *value = new;
            }
        }
        (picture, Mask { height: self.height, width: self.width, defect })
    }
}
