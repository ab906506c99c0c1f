//! Images under affine motions, and how they change with them.

/// Numbers of a motion.
pub const MOTION: usize = 6;

/// Displacement `(x + a0 + a1 u + a2 v, y + a3 + a4 u + a5 v)` in pixels; u and v are the position in -1..1. All zeros: at rest.
pub type Motion = [f64; MOTION];

/// The part of a square image that is looked at: all but a margin, into which motions may reach.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Rows and columns of the image.
    pub size: usize,
    /// Pixels left out at every side.
    pub inset: usize,
}

impl Frame {
    fn side(&self) -> usize {
        self.size - 2 * self.inset
    }

    /// Pixels that are looked at.
    pub fn pixels(&self) -> usize {
        self.side() * self.side()
    }

    /// Position of a pixel in the image, and in -1..1.
    fn place(&self, at: usize) -> ([f64; 2], [f64; 2]) {
        let (y, x) = (at / self.side() + self.inset, at % self.side() + self.inset);
        let half = (self.size - 1) as f64 / 2.0;
        ([x as f64, y as f64], [x as f64 / half - 1.0, y as f64 / half - 1.0])
    }

    /// Where a pixel is taken from.
    fn moved(&self, at: usize, m: &Motion) -> [f64; 2] {
        let ([x, y], [u, v]) = self.place(at);
        [x + m[0] + m[1] * u + m[2] * v, y + m[3] + m[4] * u + m[5] * v]
    }

    /// The moved image, pixel by pixel (bilinear; the border repeats).
    pub fn warped(&self, image: &[f64], motion: &Motion, out: &mut [f64]) {
        let value = |at| sample(image, self.size, self.moved(at, motion));
        out.iter_mut().enumerate().for_each(|(at, out)| *out = value(at));
    }

    /// The farthest that a motion takes a corner of the image from, in pixels.
    pub fn farthest(&self, m: &Motion) -> f64 {
        let corners = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]];
        let far = |[u, v]: [f64; 2]| (m[0] + m[1] * u + m[2] * v).hypot(m[3] + m[4] * u + m[5] * v);
        corners.map(far).into_iter().fold(0.0, f64::max)
    }

    /// Derivatives of the moved image in the numbers of the motion: `[pixels, 6]`, column by column.
    fn jacobian(&self, image: &[f64], motion: &Motion, out: &mut [f64]) {
        let pixels = self.pixels();
        for at in 0..pixels {
            let [x, y] = self.moved(at, motion);
            let (_, [u, v]) = self.place(at);
            let slope = |dx: f64, dy: f64| {
                sample(image, self.size, [x + dx, y + dy]) - sample(image, self.size, [x - dx, y - dy])
            };
            let (gx, gy) = (slope(0.5, 0.0), slope(0.0, 0.5));
            for (column, value) in [gx, gx * u, gx * v, gy, gy * u, gy * v].into_iter().enumerate() {
                out[column * pixels + at] = value;
            }
        }
    }

    /// The moved image over its norm, and the derivatives of that in the numbers of the motion, column by column; returns the norm.
    pub fn normalised(&self, image: &[f64], motion: &Motion, unit: &mut [f64], jacobian: &mut [f64]) -> f64 {
        self.warped(image, motion, unit);
        let norm = unit.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        unit.iter_mut().for_each(|v| *v /= norm);
        self.jacobian(image, motion, jacobian);
        for column in jacobian.chunks_exact_mut(unit.len()) {
            column.iter_mut().for_each(|v| *v /= norm);
            let along: f64 = column.iter().zip(&*unit).map(|(v, u)| v * u).sum();
            column.iter_mut().zip(&*unit).for_each(|(v, u)| *v -= along * u);
        }
        norm
    }

    /// A map over the moved pixels, brought back to the whole image: each pixel takes the bilinear value of the map where the
    /// motion turned back puts it; 0 where that is outside the map.
    pub fn restored(&self, map: &[f64], motion: &Motion, out: &mut [f32]) {
        let (size, side, inset) = (self.size, self.side(), self.inset as f64);
        let Some(back) = Inverse::of(motion, size) else { return out.fill(0.0) };
        let value = |at: usize| {
            let [x, y] = back.at([(at % size) as f64, (at / size) as f64]).map(|p| p - inset);
            let within = |p: f64| (-0.5..=side as f64 - 0.5).contains(&p);
            if within(x) && within(y) { sample(map, side, [x, y]) as f32 } else { 0.0 }
        };
        out.iter_mut().enumerate().for_each(|(at, out)| *out = value(at));
    }
}

/// A motion turned back: from where a pixel is taken to the pixel.
struct Inverse {
    matrix: [[f64; 2]; 2],
    offset: [f64; 2],
}

impl Inverse {
    /// `None` for a motion that brings a surface onto a line.
    fn of(m: &Motion, size: usize) -> Option<Self> {
        let half = (size - 1) as f64 / 2.0;
        let (a, b, c, d) = (1.0 + m[1] / half, m[2] / half, m[4] / half, 1.0 + m[5] / half);
        let det = a * d - b * c;
        let offset = [m[0] - m[1] - m[2], m[3] - m[4] - m[5]];
        (det.abs() > 1e-9).then(|| Self { matrix: [[d / det, -b / det], [-c / det, a / det]], offset })
    }

    fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (dx, dy) = (x - self.offset[0], y - self.offset[1]);
        self.matrix.map(|row| row[0] * dx + row[1] * dy)
    }
}

/// Bilinear sample; positions outside are brought to the border.
fn sample(image: &[f64], size: usize, [x, y]: [f64; 2]) -> f64 {
    let clamped = |p: f64| p.clamp(0.0, (size - 1) as f64);
    let (x, y) = (clamped(x), clamped(y));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(size - 1), (y0 + 1).min(size - 1));
    let (fx, fy) = (x - x0 as f64, y - y0 as f64);
    let row = |y: usize| image[y * size + x0] * (1.0 - fx) + image[y * size + x1] * fx;
    row(y0) * (1.0 - fy) + row(y1) * fy
}

#[cfg(test)]
mod tests {
    use super::{Frame, Inverse, Motion};

    const MOVED: Motion = [2.5, 0.75, -1.5, -1.25, 2.0, 0.5];

    #[test]
    fn a_motion_turned_back_is_the_pixel() {
        let frame = Frame { size: 40, inset: 6 };
        let back = Inverse::of(&MOVED, 40).expect("a surface");
        for at in 0..frame.pixels() {
            let ([x, y], _) = frame.place(at);
            let [u, v] = back.at(frame.moved(at, &MOVED));
            assert!((x - u).abs() < 1e-9 && (y - v).abs() < 1e-9, "({x}, {y}) comes back as ({u}, {v})");
        }
    }

    #[test]
    fn a_map_of_the_moved_image_lies_where_the_image_was() {
        let frame = Frame { size: 40, inset: 6 };
        // A plane: bilinear values of it are exact, there and back.
        let plane = |x: f64, y: f64| 3.0 + 0.5 * x - 0.25 * y;
        let image: Vec<f64> = (0..1600).map(|i| plane((i % 40) as f64, (i / 40) as f64)).collect();
        let (mut warped, mut restored) = (vec![0.0; frame.pixels()], vec![7.0; 1600]);
        frame.warped(&image, &MOVED, &mut warped);
        frame.restored(&warped, &MOVED, &mut restored);
        let back = Inverse::of(&MOVED, 40).expect("a surface");
        let mut inside = 0;
        for (at, value) in restored.iter().enumerate() {
            let (x, y) = ((at % 40) as f64, (at / 40) as f64);
            let [u, v] = back.at([x, y]);
            if (6.0..=33.0).contains(&u) && (6.0..=33.0).contains(&v) {
                inside += 1;
                assert!((f64::from(*value) - plane(x, y)).abs() < 1e-5, "({x}, {y}): {value}");
            } else if !(5.5..=33.5).contains(&u) || !(5.5..=33.5).contains(&v) {
                assert_eq!(*value, 0.0);
            }
        }
        assert!(inside > 600, "{inside} pixels, without holes");
    }
}
