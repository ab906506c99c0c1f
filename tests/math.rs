//! The host's elementary functions against the standard library in f64.

use hotad_kernels::math;

/// Largest error of `f` relative to `1 + |want|`, over `n` points of a range.
fn worst(range: (f64, f64), f: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64) -> f64 {
    const N: usize = 200_000;
    (0..=N)
        .map(|i| {
            let x = (range.0 + (range.1 - range.0) * i as f64 / N as f64) as f32;
            let w = want(f64::from(x));
            (f64::from(f(x)) - w).abs() / (1.0 + w.abs())
        })
        .fold(0.0, f64::max)
}

#[test]
fn elementary_functions_are_accurate_to_a_few_ulp() {
    assert!(worst((-87.0, 88.0), math::exp, f64::exp) < 3e-7);
    assert!(worst((1e-30, 1e3), math::ln, f64::ln) < 3e-7);
    assert!(worst((1e-6, 2.0), math::ln, f64::ln) < 3e-7);
    assert!(worst((-30.0, 30.0), math::sin, f64::sin) < 4e-6);
    assert!(worst((-30.0, 30.0), math::cos, f64::cos) < 4e-6);
    assert!(worst((0.0, 2.0), math::cbrt, f64::cbrt) < 3e-7);
    assert!(worst((0.0, 1e6), math::cbrt, f64::cbrt) < 3e-7);
}

#[test]
fn angles_are_right_in_every_quadrant() {
    for i in 0..3600 {
        let angle = f64::from(i) * 0.1f64.to_radians();
        let (y, x) = (angle.sin() as f32 * 3.0, angle.cos() as f32 * 3.0);
        let want = f64::from(y).atan2(f64::from(x));
        assert!((f64::from(math::atan2(y, x)) - want).abs() < 1e-6, "{y} {x}");
    }
    assert_eq!(math::atan2(0.0, 0.0), 0.0);
}
