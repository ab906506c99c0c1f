//! Convolutions whose operands are rounded to bf16 or bytes, with every instruction set, against double precision on
//! operands that the test has rounded.

mod in_bytes;
#[path = "../common/instruction_sets.rs"]
mod instruction_sets;

use half::bf16;
use hotad_engine::random;
use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{
    ConvOptions, ConvWeights, Extra, Padding, PreparedConv, PreparedGated, PreparedInvertedResidual,
};
use hotad_kernels::device::{Device, InputRange, Rounding};
use rand::Rng;

/// Shape of a case: map, weights (OHWI, or IHWO where transposed), options.
struct Case {
    x: [usize; 4],
    w: [usize; 4],
    opts: ConvOptions,
    transposed: bool,
}

fn case(x: [usize; 4], w: [usize; 4], stride: usize, padding: usize, dilation: usize, groups: usize) -> Case {
    let opts = ConvOptions { stride, padding: Padding::Each(padding), dilation, groups };
    Case { x, w, opts, transposed: false }
}

fn transposed(x: [usize; 4], w: [usize; 4], stride: usize, padding: usize) -> Case {
    Case { transposed: true, ..case(x, w, stride, padding, 1, 1) }
}

/// Whole and broken tiles: few and many channels, odd sizes, runs of one and of several pieces, phases, groups.
fn cases() -> Vec<Case> {
    vec![
        case([1, 8, 8, 64], [64, 3, 3, 64], 1, 1, 1, 1),
        case([2, 9, 23, 5], [17, 3, 3, 5], 1, 1, 1, 1),
        case([1, 31, 33, 3], [16, 7, 7, 3], 2, 3, 1, 1),
        case([3, 7, 5, 40], [33, 1, 1, 40], 1, 0, 1, 1),
        case([1, 12, 19, 24], [48, 1, 1, 24], 2, 0, 1, 1),
        case([1, 14, 13, 12], [20, 3, 3, 12], 1, 2, 2, 1),
        case([1, 10, 11, 32], [32, 3, 3, 16], 1, 1, 1, 2),
        case([1, 1, 3, 200], [10, 1, 1, 200], 1, 0, 1, 1),
        transposed([1, 6, 9, 20], [20, 4, 4, 12], 2, 1),
        transposed([2, 5, 4, 9], [9, 2, 2, 40], 2, 0),
    ]
}

fn random_values(n: usize, index: u64, value: impl Fn(&mut rand_chacha::ChaCha8Rng) -> f32) -> Vec<f32> {
    let mut rng = random::stream(23, "rounding test", index);
    (0..n).map(|_| value(&mut rng)).collect()
}

/// The convolution, or its adjoint, in double precision, with the sum of the magnitudes of the terms.
fn oracle(case: &Case, x: &[f32], w: &[f32], bias: &[f32], y: [usize; 4]) -> Vec<(f64, f64)> {
    let Case { x: [n, h, wd, c], w: weights, opts, transposed } = case;
    let Padding::Each(padding) = opts.padding else { panic!("given in pixels") };
    let (kh, kw, oc) = (weights[1], weights[2], y[3]);
    let (per_in, per_out) = (c / opts.groups, oc / opts.groups);
    let mut sums: Vec<(f64, f64)> = (0..y.iter().product()).map(|at: usize| (f64::from(bias[at % oc]), 0.0)).collect();
    let at_y = |image: usize, j: usize, i: usize, o: usize| ((image * y[1] + j) * y[2] + i) * oc + o;
    let mut add = |at: usize, product: f64| {
        sums[at].0 += product;
        sums[at].1 += product.abs();
    };
    for image in 0..*n {
        for (r, s) in (0..kh).flat_map(|r| (0..kw).map(move |s| (r, s))) {
            // The larger side of the pair is where the other one's pixel, stride and tap lead.
            let (small, large) = if *transposed { ([*h, *wd], [y[1], y[2]]) } else { ([y[1], y[2]], [*h, *wd]) };
            for (j, i) in (0..small[0]).flat_map(|j| (0..small[1]).map(move |i| (j, i))) {
                let (row, col) = (j * opts.stride + r * opts.dilation, i * opts.stride + s * opts.dilation);
                if row < padding || col < padding || row - padding >= large[0] || col - padding >= large[1] {
                    continue;
                }
                let (row, col) = (row - padding, col - padding);
                for o in 0..oc {
                    for k in 0..per_in {
                        let group = o / per_out;
                        let channel = group * per_in + k;
                        if *transposed {
                            let from = ((image * h + j) * wd + i) * c + channel;
                            let weight = ((channel * kh + r) * kw + s) * oc + o;
                            add(at_y(image, row, col, o), f64::from(x[from]) * f64::from(w[weight]));
                        } else {
                            let from = ((image * h + row) * wd + col) * c + channel;
                            let weight = ((o * kh + r) * kw + s) * per_in + k;
                            add(at_y(image, j, i, o), f64::from(x[from]) * f64::from(w[weight]));
                        }
                    }
                }
            }
        }
    }
    sums
}

fn prepared(case: &Case, w: &[f32], bias: &[f32], rounding: Rounding) -> PreparedConv {
    let upload = |values: &[f32]| Device::CPU.upload(values.to_vec()).expect("memory");
    let make = if case.transposed { PreparedConv::transposed } else { PreparedConv::new };
    let conv = make(upload(w), case.w, upload(bias), case.opts, Activation::Identity).expect("shapes fit");
    conv.rounded(rounding).expect("few terms")
}

/// Runs a case and compares it with double precision on `rounded` operands, within `tolerance` of the terms' magnitude.
fn compare(case: &Case, operands: [&[f32]; 2], rounded: [&[f32]; 2], rounding: Rounding, tolerance: f64) {
    let out = if case.transposed { case.w[3] } else { case.w[0] };
    let bias = random_values(out, 7, |rng| rng.random_range(-1.0..1.0));
    let conv = prepared(case, operands[1], &bias, rounding);
    let shape = conv.output(case.x).expect("the kernel fits");
    let mut y = vec![0.0; shape.iter().product()];
    conv.run(operands[0], case.x, Extra::default(), &mut y).expect("lengths fit");
    let wanted = oracle(case, rounded[0], rounded[1], &bias, shape);
    for (at, (got, (want, size))) in y.iter().zip(wanted).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= tolerance * (size + 1.0), "{:?} {:?}, element {at}: {got}, not {want}", case.x, case.w);
    }
}

#[test]
fn brain_floats_are_rounded_and_summed_in_f32() {
    for case in cases() {
        let x = random_values(case.x.iter().product(), 1, |rng| rng.random_range(-2.0..2.0));
        let w = random_values(case.w.iter().product(), 2, |rng| rng.random_range(-0.5..0.5));
        let [xr, wr] = [&x, &w].map(|v| v.iter().map(|v| bf16::from_f32(*v).to_f32()).collect::<Vec<f32>>());
        compare(&case, [&x, &w], [&xr, &wr], Rounding::Bf16, 1e-6);
    }
}

#[test]
fn bytes_are_summed_exactly() {
    // Steps are powers of two, so that operands which are whole steps are not changed.
    let (step, weight_step) = (1.0 / 32.0, 1.0 / 64.0);
    let range = InputRange::new(-55.0 * step, 200.0 * step).expect("finite");
    for case in cases() {
        let x = random_values(case.x.iter().product(), 3, |rng| rng.random_range(-55i32..=200) as f32 * step);
        // Enough weights of the largest magnitude that every channel has one.
        let whole = |rng: &mut rand_chacha::ChaCha8Rng| {
            let w = rng.random_range(-500i32..=500);
            w.clamp(-127, 127) as f32 * weight_step
        };
        let w = random_values(case.w.iter().product(), 4, whole);
        compare(&case, [&x, &w], [&x, &w], Rounding::Int8(range), 1e-6);
    }
}

/// Gated convolutions on masked and enlarged input, pooling, residual and attention give what f32 gives on rounded operands.
#[test]
fn epilogues_follow() {
    for rounding in [Rounding::Bf16, Rounding::Int8(InputRange::new(-1.0, 1.0).expect("finite"))] {
        let grid = |rng: &mut rand_chacha::ChaCha8Rng| rng.random_range(-1.0..1.0f32);
        let (image, mask) =
            (random_values(12 * 10 * 3, 1, grid), random_values(120, 2, |rng| rng.random_range(0..2) as f32));
        let gated = |rounding: Rounding, masked: bool| {
            let from = if masked { 5 } else { 3 };
            let w = random_values(24 * 9 * from, 3, grid);
            let (w, bias) =
                (Device::CPU.upload(w).expect("memory"), Device::CPU.upload(vec![0.1; 24]).expect("memory"));
            let conv = match masked {
                true => PreparedGated::new(w, [24, 3, 3, 5], bias, ConvOptions::same(3), Activation::Elu(1.0)),
                false => PreparedGated::upsampled(w, [24, 3, 3, 3], bias, Activation::Elu(1.0)),
            };
            let conv = conv.and_then(|conv| conv.rounded(rounding)).expect("shapes fit");
            let mut y = vec![0.0; if masked { 120 * 12 } else { 480 * 12 }];
            let mask = masked.then(|| mask.as_slice().into());
            conv.run(&image, [1, 12, 10, 3], mask, &mut y).expect("lengths fit");
            y
        };
        let plain = |rounding: Rounding| {
            let case = case([1, 12, 10, 3], [20, 3, 3, 3], 1, 1, 1, 1);
            let (w, bias) = (random_values(20 * 27, 4, grid), random_values(20, 5, grid));
            let conv = prepared(&case, &w, &bias, rounding);
            let (mut y, mut pooled) = (vec![0.0; 120 * 20], Device::CPU.alloc(30 * 20).expect("memory"));
            let (residual, attention) = (random_values(120 * 20, 6, grid), random_values(120, 8, grid));
            let extra = Extra { residual: Some((&residual).into()), attention: Some((&attention).into()) };
            conv.run(&image, case.x, extra, &mut y).expect("lengths fit");
            conv.run_pooled(&image, case.x, None, &mut pooled).expect("lengths fit");
            y.extend(pooled.into_vec().expect("on the host"));
            y
        };
        let all = |rounding| [gated(rounding, true), gated(rounding, false), plain(rounding)].concat();
        let (got, want) = (all(rounding), all(Rounding::None));
        let largest = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 0.08, "{rounding:?} is off by {largest}");
        assert!(largest > 0.0, "{rounding:?} rounds");
    }
}

/// An inverted residual in one pass gives what its three convolutions give one after the other.
#[test]
fn inverted_residuals_follow() {
    let range = |most: f32| Rounding::Int8(InputRange::new(-1.0, most).expect("finite"));
    for (first, last) in [(Rounding::Bf16, Rounding::Bf16), (range(1.0), range(6.0))] {
        for (x, e, to, k, stride) in
            [([1, 13, 11, 24], 144, 40, 5, 2), ([2, 9, 8, 16], 96, 16, 3, 1), ([1, 40, 35, 12], 72, 24, 3, 1)]
        {
            let from = x[3];
            let shapes = [[e, 1, 1, from], [e, k, k, 1], [to, 1, 1, e]];
            let values = |n: usize, at, scale: f32| random_values(n, at, |rng| scale * rng.random_range(-1.0..1.0));
            let upload = |values: Vec<f32>| Device::CPU.upload(values).expect("memory");
            let weight = |i: usize| values(shapes[i].iter().product(), 30 + i as u64, [0.4, 0.5, 0.1][i]);
            let bias = |i: usize| values(shapes[i][0], 40 + i as u64, 0.5);
            let roundings = [first, Rounding::None, last];
            let part = |i: usize| ConvWeights {
                weight: upload(weight(i)),
                shape: shapes[i],
                bias: upload(bias(i)),
                rounding: roundings[i],
            };
            let opts = ConvOptions { stride, padding: Padding::Each(k / 2), ..ConvOptions::default() };
            let block = PreparedInvertedResidual::new(Some(part(0)), part(1), part(2), opts, Activation::Relu6);
            let block = block.expect("shapes fit");
            let image = values(x.iter().product(), 50, 1.0);
            let shape = block.output(x).expect("it fits");
            let mut y = vec![0.0; shape.iter().product()];
            block.run(&image, x, shape == x, &mut y).expect("lengths fit");
            let (mut map, mut map_shape) = (image.clone(), x);
            for i in 0..3 {
                let groups = if i == 1 { e } else { 1 };
                let opts = if i == 1 { ConvOptions { groups, ..opts } } else { ConvOptions::default() };
                let activation = if i == 2 { Activation::Identity } else { Activation::Relu6 };
                let conv = PreparedConv::new(upload(weight(i)), shapes[i], upload(bias(i)), opts, activation);
                let conv = conv.and_then(|conv| conv.rounded(roundings[i])).expect("shapes fit");
                let next = conv.output(map_shape).expect("it fits");
                let mut out = vec![0.0; next.iter().product()];
                conv.run(&map, map_shape, Extra::default(), &mut out).expect("lengths fit");
                (map, map_shape) = (out, next);
            }
            if shape == x {
                map.iter_mut().zip(&image).for_each(|(v, x)| *v += x);
            }
            // A sum in another order may round to a neighbour: a step of an input times a weight.
            let step = if first == Rounding::Bf16 { 6.0 / 256.0 } else { 7.0 / 255.0 };
            for (got, want) in y.iter().zip(&map) {
                assert!((got - want).abs() <= 2.0 * step * 0.1, "{x:?} in {first:?}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn with_every_instruction_set() {
    instruction_sets::run_again();
}

#[test]
fn too_many_terms_and_ranges_without_end_are_refused() {
    let (w, bias) = (Device::CPU.upload(vec![1.0; 70_000]), Device::CPU.upload(vec![0.0]));
    let conv = PreparedConv::new(
        w.expect("memory"),
        [1, 1, 1, 70_000],
        bias.expect("memory"),
        ConvOptions::default(),
        Activation::Identity,
    );
    let range = InputRange::new(0.0, 1.0).expect("finite");
    let error = conv.and_then(|conv| conv.rounded(Rounding::Int8(range))).err().expect("too many").to_string();
    assert!(error.contains("70000") && error.contains("bf16"), "{error}");
    assert!(InputRange::new(0.0, f32::INFINITY).is_err() && InputRange::of(&[1.0, f32::NAN]).is_err());
    assert_eq!(InputRange::of(&[1.0, 3.0]).expect("finite").ends(), (0.0, 3.0));
}
