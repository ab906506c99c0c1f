//! Images under affine motions, and how they change with them.

use nalgebra::DMatrix;

/// Displacement `(x + a0 + a1 u + a2 v, y + a3 + a4 u + a5 v)` in pixels; u and v are the position in -1..1. All zeros: at rest.
pub type Motion = [f64; 6];

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
    pub fn warped(&self, image: &[f64], motion: &Motion) -> Vec<f64> {
        (0..self.pixels()).map(|at| sample(image, self.size, self.moved(at, motion))).collect()
    }

    /// Derivatives of the moved image in the six numbers of the motion: `[pixels, 6]`.
    pub fn jacobian(&self, image: &[f64], motion: &Motion) -> DMatrix<f64> {
        let mut j = DMatrix::zeros(self.pixels(), 6);
        for at in 0..self.pixels() {
            let [x, y] = self.moved(at, motion);
            let (_, [u, v]) = self.place(at);
            let slope = |dx: f64, dy: f64| {
                sample(image, self.size, [x + dx, y + dy]) - sample(image, self.size, [x - dx, y - dy])
            };
            let (gx, gy) = (slope(0.5, 0.0), slope(0.0, 0.5));
            for (column, value) in [gx, gx * u, gx * v, gy, gy * u, gy * v].into_iter().enumerate() {
                j[(at, column)] = value;
            }
        }
        j
    }

    /// A map over the moved pixels, brought back to the whole image; 0 in the margin.
    pub fn restored(&self, map: &[f64], motion: &Motion) -> Vec<f32> {
        let (mut out, mut hits) = (vec![0.0; self.size * self.size], vec![0u32; self.size * self.size]);
        for (at, value) in map.iter().enumerate() {
            let [x, y] = self.moved(at, motion).map(|p| p.round().clamp(0.0, (self.size - 1) as f64) as usize);
            out[y * self.size + x] += *value as f32;
            hits[y * self.size + x] += 1;
        }
        out.iter_mut().zip(hits).for_each(|(v, n)| *v /= n.max(1) as f32);
        out
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
