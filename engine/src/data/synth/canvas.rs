//! Shapes of synthetic defects: which pixels they cover, and how strongly.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The strength of a defect at each pixel, 0 to 1.
pub(super) struct Canvas {
    height: usize,
    width: usize,
    /// Row by row.
    pub share: Vec<f32>,
}

impl Canvas {
    /// A canvas without a defect.
    pub fn new(height: usize, width: usize) -> Self {
        Self { height, width, share: vec![0.0; height * width] }
    }

    /// The shorter side, in pixels.
    pub fn scale(&self) -> f32 {
        self.height.min(self.width) as f32
    }

    /// A point in the middle three quarters of the image: row, column.
    pub fn point(&self, rng: &mut ChaCha8Rng) -> (f32, f32) {
        let (h, w) = (self.height as f32, self.width as f32);
        (h * rng.random_range(0.125..0.875), w * rng.random_range(0.125..0.875))
    }

    /// A jagged line of short strokes that drift in direction; returns its middle.
    pub fn crack(
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
    pub fn stroke(&mut self, a: (f32, f32), b: (f32, f32), thickness: f32) {
        let reach = (0.5 * thickness).max(0.7);
        let (dy, dx) = (b.0 - a.0, b.1 - a.1);
        let square = (dy * dy + dx * dx).max(1e-6);
        self.mark(
            (a.0.min(b.0) - reach, a.0.max(b.0) + reach),
            (a.1.min(b.1) - reach, a.1.max(b.1) + reach),
            |y, x| {
                let t = (((y - a.0) * dy + (x - a.1) * dx) / square).clamp(0.0, 1.0);
                let (ey, ex) = (y - a.0 - t * dy, x - a.1 - t * dx);
                f32::from(u8::from(ey * ey + ex * ex <= reach * reach))
            },
        );
    }

    /// An ellipse of semi-axes `a` and `b`.
    pub fn ellipse(&mut self, centre: (f32, f32), axes: (f32, f32), angle: f32) {
        self.ellipsoid(centre, axes, angle, |r| f32::from(u8::from(r <= 1.0)));
    }

    /// An ellipse that fades from its centre: (1 - r^2)^2 at the share r of the way to its edge.
    pub fn soft_ellipse(&mut self, centre: (f32, f32), axes: (f32, f32), angle: f32) {
        self.ellipsoid(centre, axes, angle, |r| (1.0 - r).max(0.0).powi(2));
    }

    /// Marks by the square of the share of the way from a centre to the edge of an ellipse.
    fn ellipsoid(&mut self, centre: (f32, f32), (a, b): (f32, f32), angle: f32, share: impl Fn(f32) -> f32) {
        let reach = a.max(b);
        self.mark((centre.0 - reach, centre.0 + reach), (centre.1 - reach, centre.1 + reach), |y, x| {
            let (ey, ex) = (y - centre.0, x - centre.1);
            let (u, v) = (ey * angle.cos() + ex * angle.sin(), ex * angle.cos() - ey * angle.sin());
            share((u / a).powi(2) + (v / b).powi(2))
        });
    }

    /// Marks the pixels of a box by a share at their centres; what is marked twice keeps the larger share.
    fn mark(&mut self, rows: (f32, f32), cols: (f32, f32), share: impl Fn(f32, f32) -> f32) {
        let range = |(from, to): (f32, f32), n: usize| (from.max(0.0) as usize)..((to.max(0.0) as usize + 1).min(n));
        for y in range(rows, self.height) {
            for x in range(cols, self.width) {
                let at = &mut self.share[y * self.width + x];
                *at = at.max(share(y as f32 + 0.5, x as f32 + 0.5));
            }
        }
    }
}
