//! Free-form masks (Yu et al. 2019, algorithm 1): brush strokes and a box.
//!
//! 1 to 3 strokes of 4 to 11 vertices. The brush turns by 2 pi / 5 plus or minus up to 2 pi / 15, every second time mirrored;
//! its way to the next vertex is drawn from N(R, R / 2), cut to 0..2R, R an eighth of the diagonal; it is 12 to 40 pixels
//! wide at 256 pixels and round. The box has half the side of the image, less up to a sixteenth at every side.

use std::f32::consts::TAU;

use hotad_engine::random;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A mask of `side` x `side` pixels, 1 = hole.
pub fn free_form(side: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut mask = vec![0.0; side * side];
    for _ in 0..rng.random_range(1..=3) {
        stroke(&mut mask, side, rng);
    }
    cover_box(&mut mask, side, rng);
    mask
}

fn stroke(mask: &mut [f32], side: usize, rng: &mut ChaCha8Rng) {
    let size = side as f32;
    let reach = size * 2.0_f32.sqrt() / 8.0;
    let width = rng.random_range(12.0..=40.0) * size / 256.0;
    let spread = TAU / 15.0;
    let (low, high) = (TAU / 5.0 - rng.random_range(0.0..spread), TAU / 5.0 + rng.random_range(0.0..spread));
    let mut from = (rng.random_range(0.0..size), rng.random_range(0.0..size));
    for vertex in 0..rng.random_range(4..=11) {
        let turn = rng.random_range(low..=high);
        let angle = if vertex % 2 == 0 { TAU - turn } else { turn };
        let length = (reach + reach / 2.0 * random::normal(rng)).clamp(0.0, 2.0 * reach);
        let to = (from.0 + length * angle.cos(), from.1 + length * angle.sin());
        let to = (to.0.clamp(0.0, size), to.1.clamp(0.0, size));
        line(mask, side, from, to, width / 2.0);
        from = to;
    }
}

/// Covers what lies within `radius` of the line between two points.
fn line(mask: &mut [f32], side: usize, a: (f32, f32), b: (f32, f32), radius: f32) {
    let span = |p: f32, q: f32| {
        let first = (p.min(q) - radius).floor().max(0.0) as usize;
        first..((p.max(q) + radius).ceil() as usize + 1).min(side)
    };
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = (dx * dx + dy * dy).max(1e-12);
    for y in span(a.1, b.1) {
        for x in span(a.0, b.0) {
            let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
            let t = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
            let (ex, ey) = (px - t * dx, py - t * dy);
            if ex * ex + ey * ey <= radius * radius {
                mask[y * side + x] = 1.0;
            }
        }
    }
}

fn cover_box(mask: &mut [f32], side: usize, rng: &mut ChaCha8Rng) {
    let (half, margin) = (side / 2, side / 16);
    let (top, left) = (rng.random_range(0..=side - half), rng.random_range(0..=side - half));
    let mut inset = || rng.random_range(0..=margin);
    let (rows, columns) = (top + inset()..top + half - inset(), left + inset()..left + half - inset());
    for y in rows {
        mask[y * side..(y + 1) * side][columns.clone()].fill(1.0);
    }
}
