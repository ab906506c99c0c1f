//! Networks by their definitions, in float64, sharing no code with the kernels.

use hotad_kernels::conv::ConvOptions;

use crate::cases::convolution::axis;

/// A map in f64: rows, columns, channels of one image.
#[derive(Clone)]
pub struct Map {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub v: Vec<f64>,
}

impl Map {
    fn zero(h: usize, w: usize, c: usize) -> Self {
        Self { h, w, c, v: vec![0.0; h * w * c] }
    }

    fn get(&self, y: isize, x: isize, k: usize) -> f64 {
        let inside = y >= 0 && x >= 0 && y < self.h as isize && x < self.w as isize;
        if inside { self.v[(y as usize * self.w + x as usize) * self.c + k] } else { 0.0 }
    }
}

/// Convolution by its definition; weights OHWI.
pub fn naive_conv(x: &Map, w: &[f64], [o, kh, kw, i]: [usize; 4], b: &[f64], opts: ConvOptions) -> Map {
    let ((h, top), (w_out, left)) = (axis(x.h, kh, opts), axis(x.w, kw, opts));
    let mut y = Map::zero(h, w_out, o);
    for (at, v) in y.v.iter_mut().enumerate() {
        let (k, px, py) = (at % o, at / o % w_out, at / o / w_out);
        *v = b[k];
        for r in 0..kh {
            for s in 0..kw {
                for c in 0..i {
                    let sy = (py * opts.stride + r * opts.dilation) as isize - top as isize;
                    let sx = (px * opts.stride + s * opts.dilation) as isize - left as isize;
                    *v += x.get(sy, sx, c) * w[((k * kh + r) * kw + s) * i + c];
                }
            }
        }
    }
    y
}

/// Transposed convolution by scattering; weights IHWO.
pub fn naive_transpose(
    x: &Map,
    w: &[f64],
    [i, kh, kw, o]: [usize; 4],
    b: &[f64],
    stride: usize,
    padding: usize,
) -> Map {
    let mut y = Map::zero((x.h - 1) * stride + kh - 2 * padding, (x.w - 1) * stride + kw - 2 * padding, o);
    for (at, v) in y.v.iter_mut().enumerate() {
        *v = b[at % o];
    }
    for py in 0..x.h {
        for px in 0..x.w {
            for c in 0..i {
                for r in 0..kh {
                    for s in 0..kw {
                        let (ty, tx) =
                            ((py * stride + r).wrapping_sub(padding), (px * stride + s).wrapping_sub(padding));
                        if ty < y.h && tx < y.w {
                            for k in 0..o {
                                y.v[(ty * y.w + tx) * o + k] +=
                                    x.v[(py * x.w + px) * i + c] * w[((c * kh + r) * kw + s) * o + k];
                            }
                        }
                    }
                }
            }
        }
    }
    y
}

pub fn naive_pool(x: &Map) -> Map {
    let mut y = Map::zero(x.h / 2, x.w / 2, x.c);
    for (at, v) in y.v.iter_mut().enumerate() {
        let (k, px, py) = (at % x.c, (at / x.c) % (x.w / 2), at / x.c / (x.w / 2));
        let corner = |dy: usize, dx: usize| x.get((2 * py + dy) as isize, (2 * px + dx) as isize, k);
        *v = corner(0, 0).max(corner(0, 1)).max(corner(1, 0)).max(corner(1, 1));
    }
    y
}

pub fn naive_upsample(x: &Map) -> Map {
    let mut y = Map::zero(2 * x.h, 2 * x.w, x.c);
    for (at, v) in y.v.iter_mut().enumerate() {
        let (k, px, py) = (at % x.c, (at / x.c) % (2 * x.w), at / x.c / (2 * x.w));
        *v = x.get((py / 2) as isize, (px / 2) as isize, k);
    }
    y
}

pub fn apply(mut x: Map, f: impl Fn(f64) -> f64) -> Map {
    x.v.iter_mut().for_each(|v| *v = f(*v));
    x
}

/// SSIM by its definition: Gaussian 11, sigma 1.5, mirrored borders.
pub fn naive_ssim(x: &Map, y: &Map) -> f64 {
    let mirror = |p: isize, n: usize| {
        let n = n as isize;
        if p < 0 {
            -1 - p
        } else if p >= n {
            2 * n - 1 - p
        } else {
            p
        }
    };
    let weight = |i: isize| (-(i * i) as f64 / 4.5).exp();
    let total: f64 = (-5..=5).map(weight).sum();
    let mut sum = 0.0;
    for at in 0..x.v.len() {
        let (k, px, py) = (at % x.c, (at / x.c % x.w) as isize, (at / x.c / x.w) as isize);
        let mut m = [0.0; 5];
        for dy in -5..=5 {
            for dx in -5..=5 {
                let w = weight(dy) * weight(dx) / (total * total);
                let (sy, sx) = (mirror(py + dy, x.h), mirror(px + dx, x.w));
                let (a, b) = (x.get(sy, sx, k), y.get(sy, sx, k));
                for (m, v) in m.iter_mut().zip([a, b, a * a, b * b, a * b]) {
                    *m += w * v;
                }
            }
        }
        let [a, b, aa, bb, ab] = m;
        let (c1, c2) = (1e-4, 9e-4);
        sum += (2.0 * a * b + c1) * (2.0 * (ab - a * b) + c2) / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2));
    }
    sum / x.v.len() as f64
}

/// Batch normalisation by its definition, over the pixels of one image.
pub fn naive_norm(x: &Map, gain: &[f64], shift: &[f64]) -> Map {
    let n = (x.h * x.w) as f64;
    let mut y = x.clone();
    for k in 0..x.c {
        let of = |v: &Map| -> Vec<f64> { v.v.iter().skip(k).step_by(v.c).copied().collect() };
        let values = of(x);
        let mean = values.iter().sum::<f64>() / n;
        let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        for (at, v) in values.iter().enumerate() {
            y.v[at * x.c + k] = gain[k] * (v - mean) / (var + 1e-3).sqrt() + shift[k];
        }
    }
    y
}

pub fn sum_of(a: &Map, b: &Map) -> Map {
    Map { v: a.v.iter().zip(&b.v).map(|(a, b)| a + b).collect(), ..*a }
}

pub fn hard_sigmoid(v: f64) -> f64 {
    (v + 3.0).clamp(0.0, 6.0) / 6.0
}

pub fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// Means over the pixels of each channel.
pub fn averages(x: &Map) -> Vec<f64> {
    (0..x.c).map(|k| x.v.iter().skip(k).step_by(x.c).sum::<f64>() / (x.h * x.w) as f64).collect()
}

/// A matrix `[out, in]` times a vector, plus a bias.
pub fn product(w: &[f64], x: &[f64], b: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).zip(b).map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
}
