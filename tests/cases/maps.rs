//! Operations on maps, images x rows x columns x channels.

use hotad_engine::Result;
use hotad_engine::ops::{attend, attention_map, channel_scale, concat_channels, global_avg_pool2d, max_pool2d};
use hotad_engine::tensor::Tensor;
use hotad_kernels::absolute_difference::{mean_absolute_difference, mean_squared_difference};
use hotad_kernels::device::{Buffer, View};
use hotad_kernels::pool::{PoolOptions, avg_pool2d};
use hotad_kernels::shape::Nhwc;

use super::arrays::sigmoid;
use super::{Array, Case, ELEMENT, Input, SUM, given, learned};

const POOL: PoolOptions = PoolOptions { kernel: 3, stride: 2, padding: 1 };

/// A function of the values inside the image of every 3x3 window, two pixels apart, of which one lies outside.
fn windows(x: &Array, f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let [n, h, w, c] = [0, 1, 2, 3].map(|i| x.shape[i]);
    let inside = |o: usize, len: usize| (2 * o).saturating_sub(1)..(2 * o + 2).min(len);
    let mut out = Vec::new();
    for (i, oy) in (0..n).flat_map(|i| (0..h.div_ceil(2)).map(move |oy| (i, oy))) {
        for (ox, k) in (0..w.div_ceil(2)).flat_map(|ox| (0..c).map(move |k| (ox, k))) {
            let at = |y: usize, column: usize| x.values[((i * h + y) * w + column) * c + k];
            let window = inside(oy, h).flat_map(|y| inside(ox, w).map(move |column| (y, column)));
            out.push(f(&window.map(|(y, column)| at(y, column)).collect::<Vec<f64>>()));
        }
    }
    out
}

/// A function of the difference of two maps, averaged over channels.
fn over_channels(a: &[Array], f: impl Fn(f64) -> f64) -> Vec<f64> {
    let of_pixel = |(x, y): (&[f64], &[f64])| x.iter().zip(y).map(|(x, y)| f(x - y)).sum::<f64>() / x.len() as f64;
    a[0].rows().zip(a[1].rows()).map(of_pixel).collect()
}

/// Two maps that are compared, of one value and of many.
const PAIRS: &[&[Input]] =
    &[&[given(&[1, 1, 1, 1]), given(&[1, 1, 1, 1])], &[given(&[2, 7, 43, 3]), given(&[2, 7, 43, 3])]];
const TIMED_PAIR: &[Input] = &[given(&[8, 256, 256, 3]), given(&[8, 256, 256, 3])];

/// A kernel that writes a value for every pixel of two maps.
type Difference = fn(View, View, Nhwc, &mut Buffer) -> hotad_kernels::Result<()>;

/// The values that a kernel writes for two maps.
fn between(t: &[Tensor], difference: Difference) -> Result<Tensor> {
    let [n, h, w, _] = t[0].nhwc()?;
    let mut map = t[0].device().alloc(n * h * w)?;
    difference(t[0].view(), t[1].view(), t[0].nhwc()?, &mut map)?;
    Tensor::from_buffer(map, &[n, h, w])
}

/// A difference of two maps.
const fn difference(
    name: &'static str,
    run: fn(&[Tensor]) -> Result<Tensor>,
    oracle: fn(&[Array]) -> Vec<f64>,
) -> Case {
    Case { name, checked: PAIRS, timed: TIMED_PAIR, flops: 3.0, run, oracle, tolerance: ELEMENT }
}

pub const CASES: &[Case] = &[
    difference(
        "mean_absolute_difference",
        |t| between(t, |x, y, shape, map| mean_absolute_difference(x, y, shape, map)),
        |a| over_channels(a, f64::abs),
    ),
    difference(
        "mean_squared_difference",
        |t| between(t, |x, y, shape, map| mean_squared_difference(x, y, shape, map)),
        |a| over_channels(a, |d| d * d),
    ),
    Case {
        name: "channel_scale",
        checked: &[&[learned(&[1, 1, 1, 1]), learned(&[1, 1])], &[learned(&[3, 5, 7, 21]), learned(&[3, 21])]],
        timed: &[given(&[8, 64, 64, 64]), given(&[8, 64])],
        flops: 1.0,
        run: |t| channel_scale(&t[0], &t[1]),
        oracle: |a| {
            let ([h, w, c], factors) = ([1, 2, 3].map(|i| a[0].shape[i]), &a[1].values);
            a[0].values.iter().enumerate().map(|(i, x)| x * factors[i / (h * w * c) * c + i % c]).collect()
        },
        tolerance: SUM,
    },
    Case {
        name: "concat_channels",
        checked: &[
            &[learned(&[1, 1, 1, 1]), learned(&[1, 1, 1, 1])],
            &[learned(&[3, 5, 7, 21]), learned(&[3, 5, 7, 4])],
        ],
        timed: &[given(&[8, 64, 64, 64]), given(&[8, 64, 64, 32])],
        flops: 0.0,
        run: |t| concat_channels(&t[0], &t[1]),
        oracle: |a| a[0].rows().zip(a[1].rows()).flat_map(|(p, q)| [p, q].concat()).collect(),
        tolerance: ELEMENT,
    },
    Case {
        name: "attention_map",
        checked: &[&[learned(&[1, 1, 1, 3])], &[learned(&[1, 7, 43, 16])], &[learned(&[1, 8, 8, 70])]],
        timed: &[given(&[8, 64, 64, 64])],
        flops: 1.0,
        run: |t| attention_map(&t[0]),
        oracle: |a| a[0].rows().map(|p| sigmoid(p.iter().sum::<f64>() / p.len() as f64)).collect(),
        tolerance: SUM,
    },
    Case {
        name: "attend",
        checked: &[
            &[learned(&[1, 1, 1, 1]), learned(&[1, 1, 1, 1])],
            &[learned(&[1, 7, 43, 37]), learned(&[1, 7, 43, 1])],
            &[learned(&[1, 8, 8, 130]), learned(&[1, 8, 8, 1])],
        ],
        timed: &[given(&[8, 64, 64, 64]), given(&[8, 64, 64, 1])],
        flops: 2.0,
        run: |t| attend(&t[0], &t[1]),
        oracle: |a| {
            let pixels = a[0].rows().zip(&a[1].values);
            pixels.flat_map(|(p, m)| p.iter().map(move |f| (1.0 + m) * f)).collect()
        },
        tolerance: SUM,
    },
    Case {
        name: "global_avg_pool2d",
        checked: &[&[learned(&[1, 1, 1, 1])], &[learned(&[2, 13, 10, 19])]],
        timed: &[given(&[8, 64, 64, 64])],
        flops: 1.0,
        run: |t| global_avg_pool2d(&t[0]),
        oracle: |a| {
            let (c, mut sums) = (a[0].columns(), vec![0.0; a[0].shape[0] * a[0].columns()]);
            let pixels = a[0].shape[1] * a[0].shape[2];
            for (i, pixel) in a[0].rows().enumerate() {
                pixel.iter().enumerate().for_each(|(k, v)| sums[i / pixels * c + k] += v / pixels as f64);
            }
            sums
        },
        tolerance: SUM,
    },
    Case {
        name: "max_pool2d",
        checked: &[&[learned(&[1, 1, 1, 1])], &[learned(&[2, 13, 10, 19])]],
        timed: &[given(&[8, 64, 64, 64])],
        flops: 2.25,
        run: |t| max_pool2d(&t[0], POOL),
        oracle: |a| windows(&a[0], |window| window.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        tolerance: ELEMENT,
    },
    Case {
        name: "avg_pool2d",
        checked: &[&[given(&[1, 1, 1, 1])], &[given(&[2, 13, 10, 19])]],
        timed: &[given(&[8, 64, 64, 64])],
        flops: 2.25,
        run: |t| {
            let (x, shape) = (&t[0], POOL.output(t[0].nhwc()?)?);
            let mut y = x.device().alloc(shape.iter().product())?;
            avg_pool2d(x.view(), x.nhwc()?, POOL, false, &mut y)?;
            Tensor::from_buffer(y, &shape)
        },
        oracle: |a| windows(&a[0], |window| window.iter().sum::<f64>() / window.len() as f64),
        tolerance: SUM,
    },
];
