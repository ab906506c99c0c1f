//! Inverted residuals that are bytes from the expansion to the projection, against exact sums.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, ConvWeights, Padding, PreparedInvertedResidual};
use hotad_kernels::device::{Device, InputRange, Rounding, poison_new_buffers};
use rand::Rng;

use super::random_values;

/// Bytes of a range, in double precision: their step and the byte of 0.
#[derive(Clone, Copy)]
struct Bytes {
    step: f64,
    zero: f64,
}

impl Bytes {
    fn new((least, most): (f32, f32)) -> Self {
        let step = (f64::from(most) - f64::from(least)) / 255.0;
        Self { step, zero: (-f64::from(least) / step).round() }
    }

    fn of(self, value: f64) -> f64 {
        (value / self.step + self.zero).clamp(0.0, 255.0).round()
    }
}

/// Zeros before an axis of some length, and the outputs along it.
fn axis(length: usize, kernel: usize, opts: ConvOptions) -> (usize, usize) {
    match opts.padding {
        Padding::Each(zeros) => (zeros, (length + 2 * zeros - kernel) / opts.stride + 1),
        Padding::Same => {
            let out = length.div_ceil(opts.stride);
            (((out - 1) * opts.stride + kernel).saturating_sub(length) / 2, out)
        }
    }
}

/// A convolution of one group, or a depthwise one, of bytes: the values of exact sums. `x` is bytes, of which those outside of the
/// map are 0.
fn of_bytes(
    x: &[f64],
    [n, h, w, c]: [usize; 4],
    bytes: Bytes,
    (weights, [oc, kh, kw, per], bias): (&[f32], [usize; 4], &[f32]),
    opts: ConvOptions,
) -> Vec<f64> {
    let ((top, oh), (left, ow)) = (axis(h, kh, opts), axis(w, kw, opts));
    let steps: Vec<f64> = weights
        .chunks_exact(kh * kw * per)
        .map(|kernel| kernel.iter().fold(0.0f64, |most, v| most.max(f64::from(v.abs()))))
        .map(|largest| if largest > 0.0 { largest / 127.0 } else { 1.0 })
        .collect();
    let mut out = Vec::new();
    for (image, j, i) in (0..n).flat_map(|n| (0..oh).flat_map(move |j| (0..ow).map(move |i| (n, j, i)))) {
        for o in 0..oc {
            let mut sum = 0.0;
            for (r, s) in (0..kh).flat_map(|r| (0..kw).map(move |s| (r, s))) {
                let (row, col) = (j * opts.stride + r, i * opts.stride + s);
                if row < top || col < left || row - top >= h || col - left >= w {
                    continue;
                }
                let pixel = (image * h + row - top) * w + col - left;
                for k in 0..per {
                    let channel = if oc == c && per == 1 { o } else { k };
                    let weight = f64::from(weights[((o * kh + r) * kw + s) * per + k]);
                    sum += (x[pixel * c + channel] - bytes.zero) * (weight / steps[o]).round();
                }
            }
            out.push(sum * steps[o] * bytes.step + f64::from(bias[o]));
        }
    }
    out
}

/// An inverted residual: map, expanded channels, output channels, kernel, stride, zeros (SAME without), activation.
type InBytes = ([usize; 4], usize, usize, [usize; 2], usize, Option<usize>, Activation);

/// An inverted residual whose products all are of bytes: sums are exact, and each map becomes bytes once. A value that lies between
/// two bytes may go to either. Images of a batch are as they are alone.
#[test]
fn inverted_residuals_in_bytes() {
    poison_new_buffers();
    let ranges = [(-1.1, 0.9), (0.0, 5.3), (-0.4, 4.7)];
    let cases: [InBytes; 12] = [
        ([1, 13, 11, 24], 144, 40, [5, 5], 2, Some(2), Activation::Relu6),
        ([1, 9, 8, 16], 72, 16, [3, 3], 1, Some(1), Activation::Relu6),
        ([1, 28, 31, 40], 240, 24, [5, 5], 1, Some(2), Activation::Relu6),
        ([2, 23, 22, 20], 20, 36, [3, 3], 2, None, Activation::Relu6),
        ([1, 1, 3, 17], 17, 17, [3, 3], 1, Some(1), Activation::Relu6),
        ([1, 12, 10, 12], 72, 20, [3, 5], 2, None, Activation::Relu),
        ([1, 7, 6, 12], 48, 12, [1, 1], 1, Some(0), Activation::Relu6),
        // Several bands, blocks of channels, images.
        ([1, 19, 300, 6], 336, 24, [5, 5], 2, Some(2), Activation::Relu6),
        ([2, 11, 260, 8], 144, 8, [3, 3], 1, Some(1), Activation::Relu6),
        ([1, 41, 190, 12], 72, 24, [3, 3], 2, None, Activation::Relu6),
        // Blocks without an expansion.
        ([1, 11, 300, 80], 80, 24, [3, 3], 1, Some(1), Activation::Relu6),
        // A band of zeros alone.
        ([1, 8, 600, 16], 64, 8, [3, 3], 1, Some(9), Activation::Relu6),
    ];
    for (x, e, to, [kh, kw], stride, zeros, activation) in cases {
        let (from, expands) = (x[3], e != x[3]);
        let shapes = [[e, 1, 1, from], [e, kh, kw, 1], [to, 1, 1, e]];
        let values = |n: usize, at, scale: f32| random_values(n, at, |rng| scale * rng.random_range(-1.0..1.0));
        let upload = |values: Vec<f32>| Device::CPU.upload(values).expect("memory");
        let weight = |i: usize| values(shapes[i].iter().product(), 60 + i as u64, [0.5, 0.6, 0.1][i]);
        let bias = |i: usize| values(shapes[i][0], 70 + i as u64, 0.5);
        let part = |i: usize| ConvWeights {
            weight: upload(weight(i)),
            shape: shapes[i],
            bias: upload(bias(i)),
            rounding: Rounding::Int8(InputRange::new(ranges[i].0, ranges[i].1).expect("finite")),
        };
        let opts =
            ConvOptions { stride, padding: zeros.map_or(Padding::Same, Padding::Each), ..ConvOptions::default() };
        let block = PreparedInvertedResidual::new(expands.then(|| part(0)), part(1), part(2), opts, activation);
        let (block, image) = (block.expect("shapes fit"), values(x.iter().product(), 80, 1.2));
        let shape = block.output(x).expect("it fits");
        let mut y = vec![0.0; shape.iter().product()];
        block.run(&image, x, shape == x, &mut y).expect("lengths fit");
        for (image, y) in image.chunks_exact(image.len() / x[0]).zip(y.chunks_exact(y.len() / x[0])) {
            let mut alone = vec![0.0; y.len()];
            block.run(image, [1, x[1], x[2], x[3]], shape == x, &mut alone).expect("lengths fit");
            assert!(alone == y, "{x:?}: an image alone");
        }

        let bytes = ranges.map(Bytes::new);
        let first = usize::from(!expands);
        let (mut map, mut map_shape): (Vec<f64>, _) =
            (image.iter().map(|v| bytes[first].of(f64::from(*v))).collect(), x);
        for i in first..3 {
            let opts = if i == 1 { opts } else { ConvOptions::default() };
            map = of_bytes(&map, map_shape, bytes[i], (&weight(i), shapes[i], &bias(i)), opts);
            map_shape = if i == 0 { [x[0], x[1], x[2], e] } else { [x[0], shape[1], shape[2], shapes[i][0]] };
            if i < 2 {
                let most = if activation == Activation::Relu6 { 6.0 } else { f64::INFINITY };
                map.iter_mut().for_each(|v| *v = bytes[i + 1].of(v.clamp(0.0, most)));
            }
        }
        if shape == x {
            map.iter_mut().zip(&image).for_each(|(v, x)| *v += f64::from(*x));
        }
        let errors: Vec<f64> = y.iter().zip(&map).map(|(got, want)| (f64::from(*got) - want).abs()).collect();
        let (step, largest) = (bytes[2].step * 0.1, errors.iter().fold(0.0f64, |a, b| a.max(*b)));
        assert!(largest <= 3.0 * step, "{x:?}: off by {largest}, where a step is {step}");
        let near = errors.iter().filter(|error| **error <= 1e-4).count();
        assert!(near * 50 >= 49 * errors.len(), "{x:?}: {near} of {} values are those of exact sums", errors.len());
    }
}
