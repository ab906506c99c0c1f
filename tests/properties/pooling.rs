use hotad_kernels::pool::{PoolOptions, avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::{adjoint, at_all, host, near, noise, put, uninit};

/// A map, and windows of up to 4 pixels with at most half of their side beyond the border.
fn shapes() -> impl Strategy<Value = ([usize; 4], PoolOptions)> {
    let opts = (1..5usize, 1..4usize).prop_flat_map(|(kernel, stride)| {
        (0..=kernel / 2).prop_map(move |padding| PoolOptions { kernel, stride, padding })
    });
    ([1..3usize, 1..20, 1..20, 1..40], opts)
}

/// The shape of the pooled map; `None` where a window is larger than the map and its border, which is refused.
fn output(shape: [usize; 4], opts: PoolOptions) -> Result<Option<[usize; 4]>, TestCaseError> {
    let fits = shape[1].min(shape[2]) + 2 * opts.padding >= opts.kernel;
    let out = opts.output(shape).ok();
    prop_assert_eq!(out.is_some(), fits);
    Ok(out)
}

/// The values inside the image of every window, in the order of the outputs.
fn windows(x: &[f32], [n, h, w, c]: [usize; 4], opts: PoolOptions, [_, oh, ow, _]: [usize; 4]) -> Vec<Vec<f64>> {
    let inside = |o: usize, len: usize| {
        let all = (o * opts.stride..o * opts.stride + opts.kernel).map(|p| p.wrapping_sub(opts.padding));
        all.filter(|p| *p < len).collect::<Vec<usize>>()
    };
    let mut out = Vec::new();
    for (i, oy, ox) in (0..n).flat_map(|i| (0..oh).flat_map(move |y| (0..ow).map(move |x| (i, y, x)))) {
        for k in 0..c {
            let columns = inside(ox, w);
            let at = |y: usize, x: &usize| ((i * h + y) * w + x) * c + k;
            let rows = inside(oy, h).into_iter();
            out.push(rows.flat_map(|y| columns.iter().map(move |p| f64::from(x[at(y, p)]))).collect());
        }
    }
    out
}

#[test]
fn largest_values() {
    at_all(shapes(), |device, (shape, opts)| {
        let Some(out) = output(shape, opts)? else { return Ok(()) };
        let (x, len) = (noise(shape.iter().product(), 1), out.iter().product());
        let (xb, mut y, mut dx) = (put(device, &x), uninit(device, len), uninit(device, x.len()));
        max_pool2d(&xb, shape, opts, &mut y).expect("windows fit");
        let largest =
            windows(&x, shape, opts, out).into_iter().map(|w| w.into_iter().fold(f64::NEG_INFINITY, f64::max));
        near(&y, &largest.collect::<Vec<f64>>(), 0.0)?;

        // Each largest value passes its gradient, so that x . dx = y . g.
        let g = noise(len, 2);
        max_pool2d_backward(&xb, shape, &put(device, &g), opts, &mut dx).expect("as forward");
        adjoint(&y, &g, &x, &dx)
    });
}

#[test]
fn means() {
    at_all((shapes(), any::<bool>()), |device, ((shape, opts), count_padding)| {
        let Some(out) = output(shape, opts)? else { return Ok(()) };
        let (x, len) = (noise(shape.iter().product(), 1), out.iter().product());
        let (mut y, mut dx) = (uninit(device, len), uninit(device, x.len()));
        avg_pool2d(&put(device, &x), shape, opts, count_padding, &mut y).expect("windows fit");
        let mean = |window: Vec<f64>| {
            let count = if count_padding { opts.kernel * opts.kernel } else { window.len() };
            window.iter().sum::<f64>() / count as f64
        };
        near(&y, &windows(&x, shape, opts, out).into_iter().map(mean).collect::<Vec<f64>>(), 2e-6)?;

        let g = noise(len, 2);
        avg_pool2d_backward(&put(device, &g), shape, opts, count_padding, &mut dx).expect("as forward");
        prop_assert!(host(&dx).iter().all(|v| v.is_finite()));
        adjoint(&y, &g, &x, &dx)
    });
}
