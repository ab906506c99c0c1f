//! sRGB to CIE Lab and CIEDE2000, by the formulas of `hotad_kernels::colour` and `hotad_kernels::ciede2000`.

use std::f32::consts::{FRAC_PI_2, FRAC_PI_3, FRAC_PI_6, PI, TAU};

use super::graph::GraphValue;

/// Hue differences above this are wrapped: 180 degrees and a margin for rounding.
const HALF_TURN: f32 = PI + 1e-6;

/// A map of colours in CIE Lab.
pub struct Lab {
    /// Lightness, 0 to 100.
    pub l: GraphValue,
    /// Green to red.
    pub a: GraphValue,
    /// Blue to yellow.
    pub b: GraphValue,
}

/// Linear light of sRGB values.
fn linear(c: &GraphValue) -> GraphValue {
    let power = ((c.at_least(0.04) + 0.055) / 1.055).power(2.4);
    c.select("Greater", 0.04045, &power, &(c / 12.92))
}

/// The curve from relative luminance to lightness.
fn curve(t: &GraphValue) -> GraphValue {
    let root = t.at_least(0.008).power(1.0 / 3.0);
    t.select("Greater", 0.008_856, &root, &(7.787 * t + 16.0 / 116.0))
}

impl Lab {
    /// Of sRGB images in 0..1.
    pub fn of(rgb: &GraphValue) -> Self {
        let light = linear(rgb);
        let [r, g, b] = [0, 1, 2].map(|c| light.channels(c, c + 1));
        let mixed = |[x, y, z]: [f32; 3]| x * &r + y * &g + z * &b;
        let fx = curve(&(mixed([0.412_453, 0.357_580, 0.180_423]) / 0.950_47));
        let fy = curve(&mixed([0.212_671, 0.715_160, 0.072_169]));
        let fz = curve(&(mixed([0.019_334, 0.119_193, 0.950_227]) / 1.088_83));
        Self { l: 116.0 * &fy - 16.0, a: 500.0 * (fx - &fy), b: 200.0 * (fy - fz) }
    }
}

/// sqrt(c^7 / (c^7 + 25^7)).
fn chroma_share(c: &GraphValue) -> GraphValue {
    let c7 = c.power(7.0);
    (&c7 / (&c7 + 6_103_515_625.0)).apply("Sqrt")
}

/// Hue angle in 0..2 pi; 0 without chroma. ONNX has the arctangent of one number alone.
fn hue(a: &GraphValue, b: &GraphValue) -> GraphValue {
    let quarter = |sign: f32| a.number(sign * FRAC_PI_2);
    let upright = b.select("Greater", 0.0, &quarter(1.0), &b.select("Less", 0.0, &quarter(-1.0), &b.number(0.0)));
    let divisor = a.select("Equal", 0.0, &a.number(1.0), a);
    let angle = (b / divisor).apply("Atan");
    let left = b.select("Less", 0.0, &(&angle - PI), &(&angle + PI));
    let all = a.select("Less", 0.0, &left, &a.select("Equal", 0.0, &upright, &angle));
    all.select("Less", 0.0, &(&all + TAU), &all)
}

/// Square root of the sum of two squares.
fn length(a: &GraphValue, b: &GraphValue) -> GraphValue {
    (a * a + b * b).apply("Sqrt")
}

/// CIEDE2000 between two maps (Sharma, Wu and Dalal 2005; equation numbers are theirs).
pub fn ciede2000(p: &Lab, q: &Lab) -> GraphValue {
    // Equations 2 to 7: chroma, a' and hue.
    let mean = 0.5 * (length(&p.a, &p.b) + length(&q.a, &q.b));
    let g = 1.0 + 0.5 * (1.0 - chroma_share(&mean));
    let (a1, a2) = (&g * &p.a, &g * &q.a);
    let (c1, c2) = (length(&a1, &p.b), length(&a2, &q.b));
    let (h1, h2) = (hue(&a1, &p.b), hue(&a2, &q.b));
    let product = &c1 * &c2;
    // Equations 8 to 11: differences.
    let straight = &h2 - &h1;
    let up = straight.select("Less", -HALF_TURN, &(&straight + TAU), &straight);
    let wrapped = straight.select("Greater", HALF_TURN, &(&straight - TAU), &up);
    let dh = product.select("Equal", 0.0, &product.number(0.0), &wrapped);
    let d_hue = 2.0 * product.apply("Sqrt") * (0.5 * dh).apply("Sin");
    // Equations 12 to 14: means.
    let (l, c, sum) = (0.5 * (&p.l + &q.l), 0.5 * (&c1 + &c2), &h1 + &h2);
    let half = 0.5 * &sum;
    let turned = sum.select("Less", TAU, &(&half + PI), &(&half - PI));
    let near = straight.apply("Abs").select("Greater", HALF_TURN, &turned, &half);
    let h = product.select("Equal", 0.0, &sum, &near);
    // Equations 15 to 22: weights and their sum.
    let x = (&q.l - &p.l) / lightness_weight(&l);
    let y = (c2 - c1) / (1.0 + 0.045 * &c);
    let w = d_hue / (1.0 + 0.015 * &c * hue_weight(&h));
    let rotation = -(rotation(&h).apply("Sin")) * (2.0 * chroma_share(&c));
    (&x * &x + &y * &y + &w * &w + rotation * &y * &w).at_least(0.0).apply("Sqrt")
}

fn lightness_weight(l: &GraphValue) -> GraphValue {
    let l50 = l - 50.0;
    let l50 = &l50 * &l50;
    1.0 + 0.015 * &l50 / (20.0 + &l50).apply("Sqrt")
}

/// T of equation 15; the angles are 30, 6 and 63 degrees.
fn hue_weight(h: &GraphValue) -> GraphValue {
    let cos = |angle: GraphValue| angle.apply("Cos");
    let degrees = |d: f32| d.to_radians();
    1.0 - 0.17 * cos(h - FRAC_PI_6) + 0.24 * cos(2.0 * h) + 0.32 * cos(3.0 * h + degrees(6.0))
        - 0.20 * cos(4.0 * h - degrees(63.0))
}

/// Twice the rotation angle of equation 16.
fn rotation(h: &GraphValue) -> GraphValue {
    let z = (h * 1f32.to_degrees() - 275.0) / 25.0;
    FRAC_PI_3 * (-(&z * &z)).apply("Exp")
}
